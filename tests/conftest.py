"""The checkout as package `magicstyle`, the host if there is one, and an honest last line about what was skipped."""

import ast
import json
import shutil
import sys
import types
from collections import Counter
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent
RUN_IN_BROWSER = "test_run_button_gives_pictures_with_the_files_that_a_workflow_names"
TABLES = {TESTS / "host", TESTS / "browser"}
LEFT = pytest.StashKey[int]()
NEED_HOST = (TESTS / "host", TESTS / "browser")  # their modules import the host: without one they are not imported

pack = types.ModuleType("magicstyle")  # the checkout as a package, without running its __init__.py
pack.__path__ = [str(TESTS.parent)]
sys.modules["magicstyle"] = pack

from magicstyle.tests.browser.chromium import find_chromium  # noqa: E402
from magicstyle.tests.cases import one_of_each_value, values  # noqa: E402
from magicstyle.tests.host.locate import ADVICE, find_host  # noqa: E402

HOST = find_host()


def pytest_addoption(parser):
    text = "browser tests also write the README's pictures of graphs to assets/screenshots"
    parser.addoption("--write-screenshots", action="store_true", help=text)
    text = "also run every case of tests with several parameters, and tests of half a minute each"
    parser.addoption("--full", action="store_true", help=text)


class SkippedTest(pytest.Item):
    """A test of a module that was not imported."""

    def runtest(self):
        pytest.skip(ADVICE)

    def reportinfo(self):
        return self.path, None, self.name


class SkippedModule(pytest.File):
    """A test module that needs a host where there is none: its tests are read off its text and skipped."""

    def collect(self):
        for node in ast.walk(ast.parse(self.path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                yield SkippedTest.from_parent(self, name=node.name)


def needs_host(path):
    return any(folder in Path(path).parents for folder in NEED_HOST)


def pytest_pycollect_makemodule(module_path, parent):
    if HOST is None and needs_host(module_path):
        return SkippedModule.from_parent(parent, path=module_path)
    return None


@pytest.hookimpl(trylast=True)  # after -m and -k: what they leave out runs nothing in the browser
def pytest_collection_modifyitems(config, items):
    for item in items:
        if needs_host(item.path):
            item.add_marker("host")
        if TESTS / "browser" in item.path.parents:
            item.add_marker("browser")
        if "server" in getattr(item, "fixturenames", ()):
            item.add_marker("server")
    if not config.getoption("full") and not any("::" in argument for argument in config.args):
        leave_to_the_full_run(config, items)
    if find_chromium() is not None:
        leave_to_the_browser(config, items)


def leave_to_the_full_run(config, items):
    """Of a test with several parameters against the host, run each value once; leave out what takes half a minute."""
    tables = {}
    for item in items:
        if TABLES & {*item.path.parents} and hasattr(item, "callspec"):
            tables.setdefault((item.path, item.originalname), {})[item] = values(item.callspec.params)
    chosen = {item for cases in tables.values() for item in one_of_each_value(cases)}
    further = {item for cases in tables.values() for item in cases} - chosen
    left = [item for item in items if item in further or waits(item)]
    config.hook.pytest_deselected(items=left)
    items[:] = [item for item in items if item not in {*left}]
    config.stash[LEFT] = len(left)
    if hasattr(config, "workeroutput"):
        config.workeroutput["left"] = len(left)


def waits(item):
    """Whether a test is marked `long`: in all its cases, or for those workflows that the marker names."""
    marker = item.get_closest_marker("long")
    return marker is not None and (not marker.args or workflow(item) in marker.args)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
    """A worker of pytest-xdist has collected the same tests as every other."""
    node.config.stash[LEFT] = getattr(node, "workeroutput", {}).get("left", 0)


def leave_to_the_browser(config, items):
    """Workflows that the browser tier runs in this session need no second run of the same graph by its twin."""
    tests = {(getattr(item, "originalname", ""), workflow(item)): item for item in items}
    twice = [
        item for (test, name), item in tests.items() if test == "test_api_twin_runs" and (RUN_IN_BROWSER, name) in tests
    ]
    config.hook.pytest_deselected(items=twice)
    items[:] = [item for item in items if item not in twice]


def workflow(item):
    call = getattr(item, "callspec", None)
    return call.params.get("name") if call else None


def pytest_report_header():
    return f"ComfyUI: {HOST or ADVICE}"


def pytest_terminal_summary(terminalreporter):
    """The composition matrix, a line a neighbour: what held, and what share of each effect alone was left."""
    rows = composition_rows(terminalreporter.stats)
    if rows:
        terminalreporter.section(f"beside other nodes, in {HOST}")
    for name, (promise, kept, outcomes) in rows.items():
        counts = ", ".join(f"{count} {outcome}" for outcome, count in outcomes.items())
        shares = [
            f"{side} {min(values):.2f}-{max(values):.2f}"
            for side, values in zip(("its effect", "ours"), zip(*kept, strict=True), strict=False)
        ]
        terminalreporter.write_line(f"{name:42} {promise}  [{'; '.join([counts, *shares])}]")


def composition_rows(stats):
    """Each neighbour's promise, the shares that were seen, and how its cells ended."""
    rows = {}
    for outcome in ("passed", "failed", "skipped"):
        for report in stats.get(outcome, ()):
            told = [value for key, value in getattr(report, "user_properties", ()) if key == "composition"]
            if not told or (report.when != "call" and outcome == "passed"):
                continue
            name, _, promise, seen = json.loads(told[-1])
            reason = f": {report.longrepr[2].removeprefix('Skipped: ')}" if outcome == "skipped" else ""
            _, kept, outcomes = rows.setdefault(name, (promise, [], Counter()))
            kept += [seen] if seen else []
            outcomes[outcome + reason] += 1
    return rows


def pytest_unconfigure(config):
    """Say at the very end how many tests did not run, and why."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    skipped = reporter.stats.get("skipped", []) if reporter else []
    reasons = Counter(str(report.longrepr[2]) for report in skipped if isinstance(report.longrepr, tuple))
    for reason, count in reasons.most_common():
        reporter.write_line(f"{count} not run: {reason.removeprefix('Skipped: ')}")
    if reporter and (left := config.stash.get(LEFT, 0)):
        reporter.write_line(
            f"{left} not run: further cases of tests with several parameters, long tests (--full runs them)"
        )


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """A running ComfyUI with this pack in custom_nodes and a small SD1.5 checkpoint, one for all tests."""
    if HOST is None:
        pytest.skip(ADVICE)
    from magicstyle.tests.host.server import Server

    with Server(HOST, tmp_path_factory.mktemp("comfyui")) as running:
        running.add_checkpoint("tiny_full.ckpt", "full")
        yield running
    shutil.rmtree(running.folder / "models")  # half a gigabyte that pytest would keep for three runs
