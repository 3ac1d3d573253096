// What the pack adds to ComfyUI's page: colours for its own sockets and wires, its warnings, its errors in full, and the
// order of its templates.
import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";

const COLOURS = { MAGICSTYLE_FEATURES: "#e0809a", MAGICSTYLE_BANK: "#a07be0", MAGICSTYLE_CONTROLS: "#7ba0e0" };
const PACK = new URL(import.meta.url).pathname.split("/").at(-2);
const said = []; // since the last run began

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
  // a page that keeps its colours elsewhere draws its own, and loses nothing
  const maps = [app.canvas?.default_connection_color_byType, globalThis.LGraphCanvas?.link_type_colors];
  for (const map of maps.filter(Boolean)) {
    for (const [type, colour] of Object.entries(COLOURS)) colourUnlessThemed(map, type, colour);
  }
  const rules = Object.entries(COLOURS).map(([type, colour]) => `--color-datatype-${type}: ${colour};`);
  const style = document.createElement("style"); // Nodes 2.0; themes set the same names on the element itself
  style.textContent = `:root { ${rules.join(" ")} }`;
  document.head.append(style);
}

function say(severity, text) {
  const notice = { severity, summary: "MagicStyle", detail: text, life: 20000 };
  app.extensionManager?.toast?.add(notice);
  said.push(notice);
}

// What was said of the run before is no word on this one.
function forget() {
  for (const notice of said.splice(0)) app.extensionManager?.toast?.remove?.(notice);
}

// The host's own notice says that a node failed; why, and what to do, stands behind it: our sentence says it at once.
function tellOfErrors({ detail }) {
  if (detail.exception_type?.endsWith("MagicStyleError")) say("error", detail.exception_message.trim());
}

// By number, the graph before the app of the same number; the server lists files as its disk does.
function inOrder(titles) {
  const isApp = (title) => title.endsWith(".app");
  return [...titles].sort((a, b) => parseInt(a) - parseInt(b) || isApp(a) - isApp(b) || a.localeCompare(b));
}

function orderTemplates() {
  const listed = api.getWorkflowTemplates?.bind(api);
  if (!listed) return;
  api.getWorkflowTemplates = async () => {
    const templates = await listed();
    if (Array.isArray(templates?.[PACK])) templates[PACK] = inOrder(templates[PACK]);
    return templates;
  };
}

function setup() {
  colourSockets();
  api.addEventListener("magicstyle.warning", ({ detail }) => say("warn", detail.text));
  api.addEventListener("execution_error", tellOfErrors);
  api.addEventListener("execution_start", forget);
}

orderTemplates(); // before the page loads them
app.registerExtension({ name: "MagicStyle", setup });
