// What the pack adds to ComfyUI's page: colours for its own sockets and wires.
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

app.registerExtension({ name: "MagicStyle", setup: colourSockets });
