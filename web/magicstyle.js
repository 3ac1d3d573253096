// What the pack adds to ComfyUI's page: colours for its own sockets and wires, its warnings, and its errors in full.
import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";

const COLOURS = { MAGICSTYLE_FEATURES: "#e0809a", MAGICSTYLE_BANK: "#a07be0" };

// A theme that is loaded sets every type that it does not know to "": the colour then remains ours.
function colourUnlessThemed(map, type, colour) {
  let themed = map[type];
  Object.defineProperty(map, type, {
    get: () => themed || colour,
    set: (value) => (themed = value),
    enumerable: true,
    configurable: true,
  });
}

function colourSockets() {
  for (const [type, colour] of Object.entries(COLOURS)) {
    colourUnlessThemed(app.canvas.default_connection_color_byType, type, colour);
    colourUnlessThemed(LGraphCanvas.link_type_colors, type, colour);
  }
  const rules = Object.entries(COLOURS).map(([type, colour]) => `--color-datatype-${type}: ${colour};`);
  const style = document.createElement("style"); // Nodes 2.0; themes set the same names on the element itself
  style.textContent = `:root { ${rules.join(" ")} }`;
  document.head.append(style);
}

function say(severity, text) {
  app.extensionManager?.toast?.add({ severity, summary: "MagicStyle", detail: text, life: 20000 });
}

// The host's own notice says that a node failed; why, and what to do, stands behind it: our sentence says it at once.
function tellOfErrors({ detail }) {
  if (detail.exception_type?.endsWith("MagicStyleError")) say("error", detail.exception_message.trim());
}

function setup() {
  colourSockets();
  api.addEventListener("magicstyle.warning", ({ detail }) => say("warn", detail.text));
  api.addEventListener("execution_error", tellOfErrors);
}

app.registerExtension({ name: "MagicStyle", setup });
