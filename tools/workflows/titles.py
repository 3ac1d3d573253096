"""What the template browser calls every workflow: its file's name, whose number gives the order of the cards.

A template of a node pack has no other title, no description and no order of its own. The search finds the words of this
name, in every language the same, so that the demo's name holds what users of three languages look for. The names on the
left, under which tools and tests know a workflow, were the files' names before. A new workflow takes the next free
number.
"""

from __future__ import annotations

PORTRAIT = "\u4eba\u50cf \u30dd\u30fc\u30c8\u30ec\u30fc\u30c8"  # in Chinese and Japanese
TITLES = {
    "demo_no_download": f"01 Photo demo {PORTRAIT}",
    "demo_app": "01 App, photo demo",
    "portrait_stylization": "02 Portrait in a style",
    "stylize_portrait_app": "03 App, Stylize Portrait",
    "stylize_portrait": "03 Stylize Portrait, a block",
    "portrait_folder": "04 Folder of portraits",
    "portrait_keep_background": "05 Portrait, background kept",
    "two_styles_by_mask": "06 Two styles by mask",
    "regions_from_words": "07 Regions from words",
    "style_library_save": "08 Save a style",
    "style_library_apply": "09 Paint with a saved style",
    "controlnet_and_lora": "10 ControlNet and LoRA",
    "sdxl_portrait": "11 SDXL portrait",
    "inpaint_region": "12 Inpaint a region",
    "few_step_noising": "13 Few steps (LCM, Lightning)",
    "styleid": "14 StyleID as published",
    "lora_style_with_content_injection": "15 LoRA as the style",
    "keep_the_face": "16 Keep the face",
    "flux_portrait": "17 Flux.1 portrait",
    "sd35_portrait": "18 SD3.5 portrait",
    "qwen_image_portrait": "19 Qwen-Image portrait",
    "z_image_portrait": "20 Z-Image portrait",
    "demo_transformer": "21 Demo of a transformer",
    "krea2_portrait": "22 Krea 2 portrait",
    "krea2_turbo_noising": "23 Krea 2 Turbo, noised",
    "anima_portrait": "24 Anima portrait",
    "style_and_prompt": "25 Prompt in a style, a block",
    "krea2_style_and_prompt": "26 Krea 2, prompt in a style",
    "demo_variation": "27 Demo, a photo varied",
    "demo_transformer_variation": "28 Demo transformer, varied",
    "demo_film": "29 Demo, a short video",
    "video_frames": "30 Video, frame by frame",
    "wan_film": "31 Wan, a film in a style",
    "demo_trained_loras": "32 Demo, LoRAs trained",
    "trained_loras_by_region": "33 LoRAs trained, by region",
}
# what needs classes, or their outputs in an order, that the oldest host lacks
NEWER = {"demo_trained_loras", "trained_loras_by_region"}
# by this end of its name the template browser knows what opens in App mode
APPS, APP = {"demo_app", "stylize_portrait_app"}, ".app"


def title(name: str) -> str:
    """What users call a workflow: its card's title and its file's name."""
    if name not in TITLES:
        raise KeyError(f"{name} has no title: give it one, with a number, in tools/workflows/titles.py.")
    return f"{TITLES[name]}{APP if name in APPS else ''}"


def called(name: str) -> str:
    """A workflow as the notes of others name it."""
    return f"*{TITLES[name]}*"
