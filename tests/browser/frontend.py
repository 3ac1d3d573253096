"""ComfyUI's own frontend in a browser tab, handled as a user does where that is possible."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from magicstyle.tests.host.server import Server
    from playwright.sync_api import ConsoleMessage, Locator, Page

PACK_FOLDER = "comfyui-magicstyle"
READY = "window.app?.graph?.serialize && window.app?.extensionManager && window.app?.rootGraph !== null"
# Said by a frontend that is newer than its server, about routes and files that are not ours.
# And, of newer frontends, about files and nodes that they look up elsewhere, which the server's policy forbids.
HOST_NOISE = (
    *("Failed to load resource", "Failed to cache media", "[Jobs API]", "Error loading core workflow templates"),
    *("Connecting to 'https://huggingface.co/", "Fetch API cannot load https://huggingface.co/"),
    *("Connecting to 'https://api.comfy.org/", "Fetch API cannot load https://api.comfy.org/"),
)
NODES_2, PREVIEWS = "Comfy.VueNodes.Enabled", "Comfy.Execution.PreviewMethod"
HIDE_MENU = "[aria-label='Show Menu'] { display: none }"
BARE_CANVAS = {"Comfy.Graph.CanvasInfo": False, "Comfy.Minimap.Visible": False, "Comfy.Graph.CanvasMenu": False}

GRAPH = """() => {
    const known = LiteGraph.registered_node_types, graph = app.graph.serialize();
    return {
        missing: graph.nodes.filter(node => !(node.type in known)).map(node => node.type),
        faulty: app.graph.nodes.filter(node => node.has_errors).map(node => node.type),
        links: graph.links.map(link => [...link.slice(1)]),
        boxes: app.graph.nodes.map(node => [node.title, ...node.pos, ...node.size, ...node.computeSize()]),
    };
}"""
SHOWN_OR_FAILED = """node => app.graph.getNodeById(node)?.imgs?.[0]?.naturalWidth > 0
    || document.querySelector('[data-testid=error-overlay-dismiss]')"""
THUMBNAIL = """name => {
    const card = document.querySelector(`[data-testid="template-workflow-${name}"]`);
    const ours = [...card.querySelectorAll('img')].filter(image => !image.src.includes('default-template'));
    return ours.length && ours[0].naturalWidth ? [ours[0].naturalWidth, ours[0].naturalHeight] : null;
}"""
CARDS = """() => [...document.querySelectorAll('[data-testid^="template-workflow-"]')]
    .map(card => card.dataset.testid.replace('template-workflow-', ''))"""
PLACE_ALONE = """types => {
    const gap = 60, widest = 400, columns = 4, boxes = {}, bottoms = Array(columns).fill(0);
    app.graph.clear();
    types.forEach((type, i) => {
        const node = LiteGraph.createNode(type), column = i % columns;
        app.graph.add(node);
        const [width, height] = node.computeSize();
        node.setSize([Math.max(width, 300), height]);
        node.pos = [column * (widest + gap), bottoms[column] + gap];
        bottoms[column] = node.pos[1] + height + gap;
        boxes[type] = [...node.pos, ...node.size];
    });
    return boxes;
}"""
# with titles, in the canvas' own units; Nodes 2.0 draws elements, the classic canvas what its nodes say of themselves
BOXES = """() => app.graph.nodes.map(node => {
    const element = document.querySelector(`[data-node-id="${node.id}"]`), title = LiteGraph.NODE_TITLE_HEIGHT;
    const drawn = element?.getBoundingClientRect(), scale = app.canvas.ds.scale;
    const size = drawn ? [drawn.width / scale, drawn.height / scale] : [node.size[0], node.size[1] + title];
    return [node.title, node.pos[0], node.pos[1] - title, ...size];
})"""
CUT_NOTES = """part => [...document.querySelectorAll('*')]
    .filter(box => ['auto', 'scroll'].includes(getComputedStyle(box).overflowY) && box.textContent.includes(part))
    .map(box => box.scrollHeight - box.clientHeight).filter(hidden => hidden > 1)"""
COUNT = "() => app.graph.nodes.length"
IS_TYPED_IN = "() => document.activeElement?.tagName === 'INPUT'"
NODE_ERRORS = "() => JSON.stringify(app.lastNodeErrors)"
SELECT = "type => app.canvas.selectNode(app.graph.nodes.find(node => node.type === type))"
HELP_PICTURES = """() => [...document.querySelectorAll('.node-help-content img')]
    .map(image => [image.src, image.complete && image.naturalWidth])"""
HELP_IS_SHOWN = """() => {
    const images = [...document.querySelectorAll('.node-help-content img')];
    return images.length && images.every(image => image.complete);
}"""
PICTURE_SIZES = "node => (app.graph.getNodeById(node).imgs ?? []).map(i => [i.naturalWidth, i.naturalHeight])"
FILE_BUTTON = """id => {
    const node = app.graph.getNodeById(id), button = node.widgets.find(widget => widget.name === 'upload');
    return [node.pos[0] + node.size[0] / 2, node.pos[1] + (button.last_y ?? button.y) + 10];
}"""
HOLDS_FILE = """([id, name]) => app.graph.getNodeById(id).widgets
    .find(widget => widget.name === 'image').value.startsWith(name)"""
LOOK_AT = """([x, y, scale]) => {
    app.canvas.ds.scale = scale;
    app.canvas.ds.offset = [-x, -y];
    app.canvas.setDirty(true, true);
}"""


SLOT = """([node, side, name]) => {
    const found = app.graph.getNodeById(node), slot = found[side].findIndex(entry => entry.name === name);
    const [x, y] = side === 'inputs' ? found.getInputPos(slot) : found.getOutputPos(slot);
    return [x, y];
}"""
ON_SCREEN = """([x, y]) => {
    const { scale, offset } = app.canvas.ds, frame = app.canvas.canvas.getBoundingClientRect();
    return [(x + offset[0]) * scale + frame.left, (y + offset[1]) * scale + frame.top];
}"""
TURN = """([node, values]) => {
    for (const widget of app.graph.getNodeById(node).widgets)
        if (widget.name in values) { widget.value = values[widget.name]; widget.callback?.(widget.value); }
}"""

LEAVE_APP = """() => {
    const stores = document.getElementById('vue-app').__vue_app__.config.globalProperties.$pinia._s;
    const canvas = stores.get('canvas');
    if (canvas?.linearMode) canvas.linearMode = false;
}"""
APP_PICTURE = """() => [...document.querySelectorAll('[data-testid=linear-center-panel] img')]
    .map(image => [image.naturalWidth, image.naturalHeight]).find(([width]) => width >= 128)"""

APP_INPUTS = """() => {
    const shown = [...document.querySelectorAll('img')].filter(image =>
        image.src.includes('magicstyle_') && image.naturalWidth >= 128).map(image => image.src);
    return shown.length ? shown : null;
}"""


class Frontend:
    """One tab; `complaints` holds what went wrong in it since the last `forget`."""

    def __init__(self, page: Page, url: str) -> None:
        self.page, self.url = page, url
        self.complaints: list[str] = []
        self.presses = 0  # of the mouse's button, a double click being two
        page.on("console", self._on_console)
        page.on("pageerror", lambda error: self.complaints.append(f"uncaught: {error}"))
        page.on("requestfailed", lambda request: self._on_request(request.url, "failed"))
        page.on("response", lambda answer: self._on_request(answer.url, answer.status))

    def _on_console(self, message: ConsoleMessage) -> None:
        ours = "magicstyle" in message.text.lower()
        noise = message.text.startswith(HOST_NOISE)
        if not noise and (message.type == "error" or (message.type == "warning" and ours)):
            self.complaints.append(f"{message.type}: {message.text}")

    def _on_request(self, url: str, status: str | int) -> None:
        # what the frontend requests of the Registry is its own affair; en.md is requested before the page that we have
        ours = url.startswith(self.url) and "magicstyle" in url.lower() and not url.endswith("/en.md")
        if ours and (status == "failed" or int(status) >= 400):
            self.complaints.append(f"{status}: {url}")

    def forget(self) -> None:
        """Start a new list of complaints."""
        self.complaints.clear()

    def open(self) -> None:
        """Load the page and wait until a workflow can be opened; close what greets a new user."""
        self.page.goto(self.url)
        self.page.wait_for_function(READY, timeout=120_000)
        self.settle()
        self.close_dialogs()
        self.set_settings(BARE_CANVAS)
        self.forget()

    def close_dialogs(self) -> None:
        """Close what lies over the canvas."""
        for _ in range(3):
            if self.page.get_by_role("dialog").count() == 0:
                return
            self.page.keyboard.press("Escape")
            self.page.wait_for_timeout(300)

    def settle(self, milliseconds: int = 1500) -> None:
        """Give pictures and previews time to appear."""
        self.page.wait_for_timeout(milliseconds)

    def evaluate(self, script: str, argument: Any = None) -> Any:
        """Run JavaScript in the page."""
        return self.page.evaluate(script, argument)

    def load(self, workflow: dict[str, Any], settled: int = 1500) -> None:
        """Open a workflow as a dropped file would."""
        self.evaluate("workflow => app.loadGraphData(workflow)", workflow)
        self.leave_app()
        self.settle(settled)

    def choose_file(self, node: int, path: Path) -> None:
        """The file button of a Load Image on the classic canvas, and a file in the dialog that it opens."""
        with self.page.expect_file_chooser() as dialog:
            self.page.mouse.click(*self.on_screen(self.evaluate(FILE_BUTTON, node)))
            self.presses += 1
        dialog.value.set_files(path)
        self.page.wait_for_function(HOLDS_FILE, arg=[node, path.stem], timeout=30_000)

    def click(self, target: Locator) -> None:
        """A user's click, counted."""
        target.click()
        self.presses += 1

    def on_screen(self, place: list[float]) -> list[float]:
        """Where a place of the graph is in the window."""
        return self.evaluate(ON_SCREEN, place)

    def slot(self, node: int, side: str, name: str) -> list[float]:
        """Where an input or output is in the window."""
        return self.on_screen(self.evaluate(SLOT, [node, side, name]))

    def connect(self, begin: int, output: str, end: int, name: str) -> None:
        """Draw a wire with the mouse."""
        mouse = self.page.mouse
        mouse.move(*self.slot(begin, "outputs", output))
        mouse.down()
        mouse.move(*self.slot(end, "inputs", name), steps=6)
        mouse.up()
        self.presses += 1
        self.settle(150)

    def add_by_search(self, words: str, place: list[float]) -> None:
        """Double click on the empty canvas, type, Enter, and a click to put the first node found into its place."""
        for _ in range(5):  # on a busy machine the two clicks may come too far apart
            self.page.mouse.dblclick(*self.on_screen(place))
            self.settle(2000)
            if self.evaluate(IS_TYPED_IN):
                break
        self.page.keyboard.type(words)
        self.page.get_by_role("option").filter(has_text=re.compile(words, re.IGNORECASE)).first.wait_for(timeout=30_000)
        self.settle(1000)
        before = self.evaluate(COUNT)
        self.page.keyboard.press("Enter")
        self.settle(500)
        self.page.mouse.click(*self.on_screen(place))
        self.presses += 3
        self.page.wait_for_function(f"before => ({COUNT})() > before", arg=before, timeout=30_000)
        self.settle(500)

    def previews(self) -> list[str]:
        """The nodes that show a picture of what they are doing."""
        return self.evaluate("() => Object.keys(app.nodePreviewImages ?? {})")

    def turn(self, node: int, values: dict[str, Any]) -> None:
        """Set widgets, as their own editors do."""
        self.evaluate(TURN, [node, values])

    def open_templates(self) -> Locator:
        """Templates in the side bar, our pack under Extensions; returns the dialog."""
        self.click(self.page.get_by_role("button", name="Templates").first)
        dialog = self.page.get_by_role("dialog")
        self.click(dialog.get_by_text(PACK_FOLDER).first)
        return dialog

    def search_templates(self, words: str) -> None:
        """Type into the search of the open dialog, over all templates."""
        dialog = self.page.get_by_role("dialog")
        dialog.get_by_text("All Templates").first.click()
        dialog.get_by_placeholder("Search").first.fill(words)
        self.settle(1000)

    def shown_templates(self) -> list[str]:
        """The names of the cards in the open dialog, in their order."""
        self.settle(1000)
        return self.evaluate(CARDS)

    def thumbnail(self, name: str) -> list[int]:
        """Size of the picture on a workflow's card in the open dialog, as soon as its file has arrived."""
        self.page.get_by_test_id(f"template-workflow-{name}").scroll_into_view_if_needed()
        return self.page.wait_for_function(THUMBNAIL, arg=name, timeout=60_000).json_value()

    def open_template(self, name: str) -> Locator:
        """Click on a workflow's card among the templates; returns the dialog."""
        dialog = self.open_templates()
        card = dialog.get_by_test_id(f"template-workflow-{name}")
        self.thumbnail(name)  # cards are drawn anew while their pictures arrive, and a click on an old one is lost
        self.click(card)
        card.wait_for(state="hidden", timeout=60_000)
        self.settle()
        return dialog

    def leave_app(self) -> None:
        """From App mode to the graph, where the frontend has such a mode."""
        self.skip_tour()
        self.evaluate(LEAVE_APP)

    def skip_tour(self) -> None:
        """Close what greets who enters App mode for the first time."""
        skip = self.page.get_by_test_id("coach-landing").get_by_role("button", name="Skip", exact=True)
        if skip.count():
            self.click(skip)
            self.settle(500)

    def app_knobs(self) -> list[str]:
        """What the widgets in App mode are called."""
        return self.page.get_by_test_id("builder-widget-label").all_inner_texts()

    def app_pictures(self) -> list[str]:
        """The addresses of the pictures that an app shows among its widgets."""
        self.page.wait_for_function(APP_INPUTS, timeout=60_000)
        return self.evaluate(APP_INPUTS)

    def run_app(self) -> None:
        """The Run button of App mode."""
        self.click(self.page.get_by_role("button", name="Run").first)

    def wait_for_app_picture(self, patience: float = 400) -> list[int]:
        """The size of the result that App mode shows, as soon as it does."""
        return self.page.wait_for_function(APP_PICTURE, timeout=patience * 1000).json_value()

    def graph(self) -> dict[str, Any]:
        """What the frontend holds: missing classes, faulty nodes, links, boxes."""
        return self.evaluate(GRAPH)

    def api(self) -> dict[str, Any]:
        """The graph that Run would queue."""
        return self.evaluate("async () => (await app.graphToPrompt()).output")

    def error_panel(self) -> str:
        """The text of the error overlay, empty when all is well."""
        buttons = self.page.get_by_test_id("error-overlay-dismiss")
        return buttons.first.locator("xpath=../..").inner_text() if buttons.count() else ""

    def wait_for_errors(self) -> str:
        """What the frontend says against the run, in its overlay and in the panel behind it."""
        self.page.get_by_test_id("error-overlay-dismiss").first.wait_for(timeout=60_000)
        return f"{self.error_panel()} {self.evaluate(NODE_ERRORS)}"

    def command(self, name: str) -> None:
        """A command of the frontend's menus and shortcuts."""
        self.evaluate("name => app.extensionManager.command.execute(name)", name)

    def set_settings(self, settings: dict[str, Any]) -> None:
        """Change settings as the settings dialog does."""
        script = (
            "async all => { for (const [k, v] of Object.entries(all)) await app.extensionManager.setting.set(k, v) }"
        )
        self.evaluate(script, settings)

    def reset(self) -> None:
        """The classic canvas without previews, and without the pictures of earlier nodes, as each test finds it."""
        # kept by a node's number, they would be drawn on the next node of that number
        self.evaluate("() => { app.nodeOutputs = {}; app.nodePreviewImages = {} }")
        usual = {NODES_2: False, PREVIEWS: "default"}
        self.set_settings({name: value for name, value in usual.items() if self.has_setting(name)})

    def has_setting(self, name: str) -> bool:
        """Whether this frontend knows a setting."""
        return self.evaluate("name => name in app.extensionManager.setting.settings", name)

    def scale(self) -> float:
        """How large the canvas shows the graph."""
        return self.evaluate("() => app.canvas.ds.scale")

    def boxes(self) -> list[tuple[str, float, float, float, float]]:
        """Title, x, y, width and height of every node as it is drawn, its title bar included."""
        return self.evaluate(BOXES)

    def cut(self, part: str) -> list[int]:
        """By how many pixels the text in which some words stand is longer than its box; empty if it fits."""
        return self.evaluate(CUT_NOTES, part)

    def run(self) -> None:
        """Bring the whole graph into view, for the canvas loads only pictures that it draws; press the Run button."""
        self.command("Comfy.Canvas.FitView")
        self.click(self.page.get_by_test_id("queue-button"))

    def wait_for_pictures(self, node: int, patience: float = 400) -> list[list[int]]:
        """Sizes of the pictures that a node shows, as soon as it shows some or the frontend reports an error."""
        self.page.wait_for_function(SHOWN_OR_FAILED, arg=node, timeout=patience * 1000)
        return self.evaluate(PICTURE_SIZES, node)

    def place_nodes(self, types: list[str]) -> dict[str, list[float]]:
        """A new graph of unconnected nodes; their boxes without titles."""
        return self.evaluate(PLACE_ALONE, types)

    def open_help(self, node_type: str) -> list[tuple[str, int]]:
        """Select a node, press the information button above it; addresses and widths of its page's pictures."""
        self.evaluate(LOOK_AT, [-500, -300, 1])  # clear of the bars, whose tabs would lie over the button
        self.evaluate(SELECT, node_type)
        self.page.get_by_test_id("info-button").click()
        self.page.wait_for_function(HELP_IS_SHOWN, timeout=60_000)
        return self.evaluate(HELP_PICTURES)

    def help_text(self) -> str:
        """What the help panel says."""
        return self.page.locator(".node-help-content").inner_text()

    def picture_of_graph(self, boxes: list[list[float]], scale: float = 0.6, margin: float = 30) -> bytes:
        """A PNG of the canvas alone, cut to the groups, drawn at a scale at which texts can be read."""
        left, top = (min(box[i] for box in boxes) - margin for i in (0, 1))
        right, bottom = (max(box[i] + box[i + 2] for box in boxes) + margin for i in (0, 1))
        before = self.page.viewport_size
        self.command("Workspace.ToggleFocusMode")
        self.page.set_viewport_size(
            {"width": math.ceil((right - left) * scale), "height": math.ceil((bottom - top) * scale)}
        )
        self.settle(500)
        self.evaluate(LOOK_AT, [left, top, scale])
        self.settle(1500)
        picture = self.page.screenshot(style=HIDE_MENU)
        self.command("Workspace.ToggleFocusMode")
        self.page.set_viewport_size(before)
        return picture


def meets_nodes_2(frontend: Frontend, server: Server) -> bool:
    """Whether the host is one with which users meet the new renderer."""
    version = server.get("system_stats")["system"]["comfyui_version"]
    return frontend.has_setting(NODES_2) and tuple(map(int, version.split(".")[:2])) >= (0, 33)
