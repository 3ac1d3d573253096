"""A folder of portraits in one style: every portrait is painted, as it is seen."""

from magicstyle.tests import photographs
from magicstyle.tests.picture_files.made import save_turned
from magicstyle.tests.workflows import graphs
from magicstyle.tests.workflows.provide import provide
from PIL import Image

NAME = "portrait_folder"


def small_graph(server):
    graph = graphs.substituted(graphs.with_pictures(NAME), width=128, height=128, steps=3)
    provide(server, graph, (128, 128))
    return graph


def test_every_portrait_of_the_folder_is_painted(server):
    graph = small_graph(server)
    entry = server.wait(server.queue(graph))
    images = server.images(entry["outputs"])
    assert len(images) == len(graphs.FOLDER_OF_PORTRAITS)
    assert abs(images[0].astype(float) - images[1]).mean() > 2, "one portrait was painted twice"


def test_a_photograph_that_lies_on_its_side_in_the_file_is_painted_upright(server):
    graph = small_graph(server)
    graphs.only(graph, "MagicStyleLoadPortraits")["inputs"]["folder"] = "phone"
    folder = server.folder / "input" / "phone"
    folder.mkdir()
    portrait = Image.fromarray(photographs.portrait((128, 128)))
    portrait.save(folder / "1.png")
    save_turned(folder / "2.jpg", 6, portrait, quality=98, subsampling=0)
    (folder / "3.txt").write_text("left out, and named")
    plain, phone = (image.astype(float) for image in server.images(server.wait(server.queue(graph))["outputs"]))
    assert abs(plain - phone).mean() < 5 < abs(plain - phone.transpose(1, 0, 2)).mean()
    assert "1 of 'phone' left out: 3.txt is no kind of picture" in server.log
