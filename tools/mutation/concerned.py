"""Which tests concern a module: those that need no host first."""

from __future__ import annotations

from pathlib import Path

WITHOUT_HOST = ("tests/core", "tests/attention_patches", "tests/headless")
# one file of tests/host or more for each part of the pack; the whole of tests/host would take half an hour a mutant
WITH_HOST = {
    "core/inversion": ("test_inversion_methods", "test_inversion_run"),
    "core/reversible": ("test_inversion_methods",),
    "core/midpoint": ("test_inversion_methods",),
    "core/noise_pair": ("test_inversion_methods",),
    "core/grid": ("test_regions", "test_areas", "test_inversion_run"),
    "core/regions": ("test_regions", "test_areas", "test_inversion_run"),
    "core/word_regions": ("test_word_regions",),
    "core/preview": ("test_preview",),
    "banks/placement": ("test_storage", "test_inversion_run"),
    "core/fusion": ("test_methods", "test_defaults", "test_storage"),
    "core/sources": ("test_methods", "test_regions"),
    "core": ("test_storage", "test_regions"),
    "core/rotation": ("test_families",),
    "attention_patches/architectures/unet": ("test_stylization", "test_models"),
    "attention_patches/architectures": ("test_families",),
    "attention_patches/words": ("test_word_regions",),
    "attention_patches/comfy/conds": ("test_host_parts", "test_areas", "test_methods"),
    "attention_patches/comfy/recording": ("test_host_parts", "test_inversion_run", "test_storage"),
    "attention_patches/comfy/start": ("test_host_parts", "test_families"),
    "attention_patches/comfy/fusion": (
        "test_host_parts",
        "test_methods",
        "test_storage",
        "test_areas",
        "test_families",
    ),
    "attention_patches/comfy": ("test_host_parts", "test_storage", "test_stylization", "test_inversion_run"),
    "attention_patches": ("test_stylization", "test_storage", "test_areas", "test_inversion_run"),
}
NOT_IN_PROCESS = ["-m", "not server and not browser", "-k", "not fifty_runs and not fewest_and_the_most"]


def without_host(root: Path, file: str) -> list[str]:
    """The test files that import the module, its namesake first; else all of its part."""
    name = "magicstyle." + file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    every = sorted(path for folder in WITHOUT_HOST for path in (root / folder).glob("test_*.py"))
    found = [path for path in every if f"{name} import" in path.read_text(encoding="utf-8")]
    own = [path for path in every if path.parent.name == file.split("/")[0]]
    namesake = f"test_{Path(file).stem}.py"
    chosen = sorted(found or own, key=lambda path: path.name != namesake)
    return [path.relative_to(root).as_posix() for path in chosen]


def with_host(file: str) -> list[str]:
    """The arguments for the tests in a real host, in this process."""
    stem = next(stem for stem in WITH_HOST if file.startswith(stem))
    return [*(f"tests/host/{name}.py" for name in WITH_HOST[stem]), *NOT_IN_PROCESS]
