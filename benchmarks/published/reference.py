"""The table of StyleID's paper (Chung, Hyun and Heo, CVPR 2024), for printing beside what was measured here."""

from __future__ import annotations

from typing import NamedTuple


class Published(NamedTuple):
    """A row of the paper's table; None where the value is not at hand."""

    method: str
    art_fid: float
    fid: float | None = None
    lpips: float | None = None
    cfsd: float | None = None

    @property
    def values(self) -> dict[str, float | None]:
        """The numbers under the names of the metrics."""
        return {"ArtFID": self.art_fid, "FID": self.fid, "LPIPS": self.lpips, "CFSD": self.cfsd}


# Nobody has compared these numbers with the paper yet: they were written down from memory. Whoever does sets this to
# the words "read from the paper".
SOURCE = "not verified"
STYLEID = Published("StyleID", 28.801, 18.131, 0.5055, 0.2281)
TABLE = (
    STYLEID,
    Published("AdaAttN", 30.350),
    Published("StyTR2", 30.720),
    Published("AdaIN", 30.933),
    Published("MAST", 31.282),
    Published("AesPA-Net", 31.420),
    Published("AdaConv", 31.856),
    Published("EFDM", 34.605),
    Published("ArtFlow", 34.630),
    Published("CAST", 34.685),
    Published("InST", 40.633),
    Published("DiffuseIT", 40.721),
    Published("DiffStyle", 41.464),
)
TOLERANCE = 1.0  # of FID


class Calibration(NamedTuple):
    """How near this machinery comes to the published FID of StyleID with StyleID's own walk."""

    fid: float

    @property
    def off(self) -> float:
        """The difference to the published value."""
        return self.fid - STYLEID.fid

    @property
    def holds(self) -> bool:
        """Whether other rows may be compared with the published ones."""
        return abs(self.off) <= TOLERANCE

    def __str__(self) -> str:
        verdict = "holds" if self.holds else "fails"
        return (
            f"the calibration {verdict}: styleid as StyleID's script walks has FID {self.fid:.3f}, the published value "
            f"({SOURCE}) is {STYLEID.fid:.3f}, and {self.off:+.3f} is {'within' if self.holds else 'beyond'} "
            f"{TOLERANCE:g}"
        )
