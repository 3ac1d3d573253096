// Inputs that had other names before 0.1.0: graphs that were saved with them open as they were. The server reads the same
// table (nodes/old_names.py) in what is queued.
import { app } from "../../scripts/app.js";

const INVERSION = { "place": "storage_device", "keep": "roles", "every": "level_stride" };
const RENAMED = {
  "MagicStyleInvertContent": INVERSION,
  "MagicStyleInvertStyle": INVERSION,
  "MagicStyleSaveFeatureBank": { "keep": "contents" },
};

const newName = (type, name) => RENAMED[type]?.[name] ?? name;

function withNewKeys(type, values) {
  const known = Object.entries(values).filter(([name]) => newName(type, name) === name || !(newName(type, name) in values));
  return Object.fromEntries(known.map(([name, value]) => [newName(type, name), value]));
}

// A slot, its widget and, in newer pages, the list of values are known by name; older pages know values by position alone.
function renameNode(type, saved) {
  for (const input of saved.inputs ?? []) {
    const name = newName(type, input.name);
    if (input.localized_name === input.name) input.localized_name = name;
    input.name = name;
    if (input.widget?.name) input.widget.name = newName(type, input.widget.name);
  }
  if (saved.widgets_values_named) saved.widgets_values_named = withNewKeys(type, saved.widgets_values_named);
  return saved;
}

// Widgets that a block or an app shows are named by the node they belong to.
function renameShown(graph) {
  const inner = Object.fromEntries((graph.definitions?.subgraphs ?? []).map((found) => [found.id, found.nodes ?? []]));
  const typeIn = (nodes, id) => nodes.find((node) => String(node.id) === String(id))?.type;
  const rename = (nodes, shown) => {
    for (const entry of shown ?? []) if (Array.isArray(entry)) entry[1] = newName(typeIn(nodes, entry[0]), entry[1]);
  };
  for (const nodes of [graph.nodes ?? [], ...Object.values(inner)]) {
    for (const node of nodes) if (inner[node.type]) rename(inner[node.type], node.properties?.proxyWidgets);
  }
  rename(graph.nodes ?? [], graph.extra?.linearData?.inputs);
}

function renamePrompt(prompt) {
  const renamed = (node) => (node?.inputs ? { ...node, inputs: withNewKeys(node.class_type, node.inputs) } : node);
  return Object.fromEntries(Object.entries(prompt).map(([id, node]) => [id, renamed(node)]));
}

// A queued graph that is dropped on the page, or a picture that holds one, is opened by this.
const openPrompt = app.loadApiJson?.bind(app);
if (openPrompt) app.loadApiJson = (prompt, ...more) => openPrompt(renamePrompt(prompt), ...more);

app.registerExtension({
  name: "MagicStyle.OldNames",
  // every way by which a page makes a node of what was saved, pasted ones and those inside of blocks, ends here
  beforeRegisterNodeDef(nodeType, { name }) {
    if (!RENAMED[name]) return;
    const configure = nodeType.prototype.configure;
    nodeType.prototype.configure = function (saved) {
      return configure.call(this, renameNode(name, saved));
    };
  },
  beforeConfigureGraph: renameShown,
});
