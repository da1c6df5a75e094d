import av
import numpy as np
import pytest

from rtface.util.av_input import open_input, plain_tags


@pytest.fixture
def film(tmp_path):
    """With a title, on the film and on its stream, of which a byte is no UTF-8."""
    path = tmp_path / "in.mkv"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "gray"
        out.metadata["title"] = stream.metadata["title"] = "caf@"
        out.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32), np.uint8), "gray")))
        out.mux(stream.encode(None))
    path.write_bytes(path.read_bytes().replace(b"caf@", b"caf\xe9"))
    return path


def test_tags_that_are_no_utf8_are_replaced(film):
    with open_input(str(film)) as opened:
        assert opened.metadata["title"] == opened.streams[0].metadata["title"] == "caf\ufffd"


def test_names_of_tags_are_replaced_too():
    assert plain_tags({"caf\udce9": "\udcff and é"}) == {"caf\ufffd": "\ufffd and é"}
