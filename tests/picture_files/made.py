"""Picture files as people have them, made from one picture, so that nothing has to be shipped."""

import io

import numpy as np
from PIL import Image, ImageCms

ORIENTATION = 0x0112
TURNED_BACK = {  # what a camera stores of an upright picture under each orientation
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def upright(width=60, height=80):
    """A picture whose four corners differ, smooth enough for JPEG."""
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    return Image.fromarray((np.stack([x, y, 1 - x * y], axis=2) * 255).astype(np.uint8))


def save_turned(path, orientation, image=None, **more):
    """A file as a camera writes it: the picture lies on its side, and a tag says how to turn it."""
    image = upright() if image is None else image
    back = TURNED_BACK[orientation]
    stored = image if back is None else image.transpose(back)
    if path.suffix in (".tif", ".tiff"):
        stored.save(path, tiffinfo={ORIENTATION: orientation}, **more)
    else:
        exif = Image.Exif()
        exif[ORIENTATION] = orientation
        stored.save(path, exif=exif.tobytes(), **more)
    return path


def display_p3():
    """An ICC profile with the primaries of Display P3: sRGB's own, with its colorants replaced."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    colorants = {  # adapted to D50, as ICC profiles hold them
        b"rXYZ": (0.51512, 0.24120, -0.00105),
        b"gXYZ": (0.29198, 0.69225, 0.04189),
        b"bXYZ": (0.15710, 0.06657, 0.78407),
    }
    for number in range(int.from_bytes(data[128:132], "big")):
        entry = 132 + 12 * number
        tag, at = bytes(data[entry : entry + 4]), int.from_bytes(data[entry + 4 : entry + 8], "big")
        if tag in colorants:
            fixed = (round(value * 65536).to_bytes(4, "big", signed=True) for value in colorants[tag])
            data[at + 8 : at + 20] = b"".join(fixed)
    return bytes(data).replace("sRGB".encode("utf-16-be"), "P3  ".encode("utf-16-be"))


def p3_of_srgb(rgb):
    """The same colours 0..255, n 3, in Display P3's numbers, by the standards' formulas."""
    of_srgb = np.array(
        [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.072175], [0.0193339, 0.119192, 0.9503041]]
    )
    of_p3 = np.array([[0.48657, 0.26567, 0.19822], [0.22897, 0.69174, 0.07929], [0.0, 0.04511, 1.04394]])
    values = np.asarray(rgb, float) / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    found = linear @ (np.linalg.inv(of_p3) @ of_srgb).T
    found = np.where(found <= 0.0031308, found * 12.92, 1.055 * np.clip(found, 0, None) ** (1 / 2.4) - 0.055)
    return found * 255


def bytes_of(image, kind, **more):
    """A picture in the bytes of a file."""
    file = io.BytesIO()
    image.save(file, kind, **more)
    return file.getvalue()
