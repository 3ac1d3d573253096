"""A video through the command: what is made of a clip of five drawn frames with a tone, and what is refused."""

import sys

import av
import numpy as np
import pytest
from magicstyle.headless import cli
from magicstyle.headless.pairs import film
from magicstyle.headless.pictures.video import look, read_comment, read_frames, write_video
from PIL import Image

FAST = ["--steps", "2", "--size", "64", "--quiet"]
BATCH = ["--batch", "2"]
COUNT, SIZE, RATE = 5, (96, 64), 10


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path, monkeypatch, loads):
    monkeypatch.chdir(tmp_path)


def drawn(number):
    """A white square that moves over a red and a blue half."""
    picture = np.zeros((SIZE[1], SIZE[0], 3), np.uint8)
    picture[:, :48], picture[:, 48:] = (200, 40, 40), (30, 60, 180)
    picture[20:40, 10 * number : 10 * number + 20] = 255
    return picture


def clip(path, sound="aac", times=range(COUNT)):
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=RATE)
        video.width, video.height, video.pix_fmt = *SIZE, "yuv420p"
        tone = out.add_stream(sound, rate=44100, layout="mono") if sound else None
        for number, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(drawn(number), format="rgb24")
            frame.pts = time
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
        if tone is not None:
            wave = 0.3 * np.sin(2 * np.pi * 440 * np.arange(44100 * COUNT // RATE) / 44100)
            frame = av.AudioFrame.from_ndarray(wave.astype(np.float32)[None], format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 44100, 0
            for part in av.AudioResampler(format=tone.format.name, layout="mono", rate=44100).resample(frame):
                out.mux(tone.encode(part))
            out.mux(tone.encode(None))
    return path


def packets(path, kind):
    with av.open(str(path)) as container:
        found = container.demux(**{kind: 0})
        return [(float(p.pts * p.time_base), bytes(p)) for p in found if p.dts is not None]


def times(path):
    return sorted(time for time, _ in packets(path, "video"))


def stylize(*arguments):
    return cli.main(["stylize", *map(str, arguments), *FAST, *BATCH])


def pixels(path):
    return np.stack([np.asarray(frame, dtype=np.float32) for frame in read_frames(path)])


def made(tmp_path):
    return sorted(path.name for path in (tmp_path / "out").iterdir())


# --- what is made --------------------------------------------------------------------------------------------------


def test_a_video_is_painted_frame_by_frame_and_keeps_its_sound_and_its_times(tmp_path, pictures):
    (style,) = pictures("x.png")
    source = clip(tmp_path / "clip.mp4", times=[0, 1, 2, 5, 6])  # of an uneven rate
    assert stylize(source, style, "-o", "out") == cli.OK
    result = tmp_path / "out" / "clip--x.mp4"
    assert made(tmp_path) == [result.name]
    assert look(result) == ((64, 64), COUNT, 1)
    assert packets(result, "audio") == packets(source, "audio")
    assert times(result) == pytest.approx(times(source), abs=1e-3)
    # each frame is its own: painted by itself it comes out alike, but for the statistics that it shares
    for number in (0, COUNT - 1):
        Image.fromarray(drawn(number)).save(tmp_path / f"{number}.png")
        assert cli.main(["stylize", f"{number}.png", str(style), "-o", f"{number}-alone.png", *FAST]) == cli.OK
    frames = pixels(result)
    own, last = (np.asarray(Image.open(tmp_path / f"{n}-alone.png"), dtype=np.float32) for n in (0, COUNT - 1))
    assert np.abs(frames[0] - own).mean() < 6.0 < np.abs(frames[0] - frames[-1]).mean()  # H.264 is lossy
    assert np.abs(frames[-1] - last).mean() < np.abs(frames[-1] - own).mean()


def test_a_rerun_continues_where_an_interrupted_one_stopped(tmp_path, pictures, monkeypatch):
    (style,) = pictures("x.png")
    source = clip(tmp_path / "clip.mp4")
    assert stylize(source, style, "-o", "whole.mp4") == cli.OK
    done, paint = [], film.paint

    def interrupted(model, bank, start, *more):
        if len(done) == 1:
            raise KeyboardInterrupt
        done.append(start.noise.shape[0])
        return paint(model, bank, start, *more)

    monkeypatch.setattr(film, "paint", interrupted)
    assert stylize(source, style, "-o", "out") == cli.INTERRUPTED
    folder = tmp_path / "out" / "clip--x.mp4.frames"
    assert sorted(path.name for path in folder.iterdir()) == ["000001.png", "000002.png"]
    rest = []
    monkeypatch.setattr(film, "paint", lambda *given: rest.append(given[2].noise.shape[0]) or paint(*given))
    assert stylize(source, style, "-o", "out") == cli.OK
    assert done == [2] and rest == [2, 1] and made(tmp_path) == ["clip--x.mp4"]
    assert np.array_equal(pixels(tmp_path / "out" / "clip--x.mp4"), pixels(tmp_path / "whole.mp4"))


def test_a_finished_video_is_left_and_replaced_with_other_settings_where_asked(tmp_path, pictures, capsys, loads):
    (style,) = pictures("x.png")
    source = clip(tmp_path / "clip.mp4", sound=None)
    assert stylize(source, style, "-o", "out") == cli.OK and len(loads) == 1
    assert stylize(source, style, "-o", "out") == cli.OK and len(loads) == 1
    result = tmp_path / "out" / "clip--x.mp4"
    before = read_comment(result)
    assert stylize(source, style, "-o", "out", "--method", "styleid") == cli.UNUSABLE
    assert "is this video with other settings (--overwrite replaces it)" in capsys.readouterr().err
    assert stylize(source, style, "-o", "out", "--method", "styleid", "--overwrite") == cli.OK
    assert read_comment(result) != before and '"method": "styleid"' in read_comment(result)
    assert str(tmp_path) not in read_comment(result)


def test_sound_that_an_mp4_does_not_take_is_encoded_again(tmp_path):
    source = clip(tmp_path / "clip.mkv", sound="flac")
    frames = list(read_frames(source))
    write_video(tmp_path / "out.mp4", source, frames, "")
    with av.open(str(tmp_path / "out.mp4")) as container:
        (sound,) = container.streams.audio
        assert sound.codec_context.name == "aac"
        assert float(sound.duration * sound.time_base) == pytest.approx(COUNT / RATE, abs=0.05)
    assert np.abs(pixels(tmp_path / "out.mp4") - pixels(source)).mean() < 3.0


# --- what is refused -----------------------------------------------------------------------------------------------


def refused(capsys, *arguments):
    assert stylize(*arguments) == cli.UNUSABLE
    return capsys.readouterr().err


def test_without_pyav_one_sentence_says_what_to_install(tmp_path, pictures, capsys, monkeypatch):
    (style,) = pictures("x.png")
    source = clip(tmp_path / "clip.mp4", sound=None)
    monkeypatch.setitem(sys.modules, "av", None)
    assert "is read with PyAV, which is not installed: pip install av." in refused(capsys, source, style)


def test_what_a_video_has_not_is_refused(tmp_path, pictures, capsys):
    first, second = pictures("x.png", "y.png")
    source = clip(tmp_path / "clip.mp4", sound=None)
    assert "painted in one style: name one picture after it" in refused(capsys, source, first, second)
    assert "--sheet means nothing to a video" in refused(capsys, source, first, "--sheet")
    assert "ends with .mkv, but videos are MP4" in refused(capsys, source, first, "-o", "r.mkv")
    assert "missing.mp4 does not exist" in refused(capsys, "missing.mp4", first)
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    assert "broken.mp4 cannot be read as a video" in refused(capsys, "broken.mp4", first)
    assert "is a file of other origin" in refused(capsys, source, first, "-o", source)
