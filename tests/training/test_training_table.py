import logging
import re
from pathlib import Path

import h5py
import numpy as np
import pytest
from training.embedding_files import write_dataset, write_embedding, write_foreign, write_table

from scripts.common.errors import RequestError, SlideError
from scripts.slides.synthetic import write_tiny_slide_set
from scripts.training.model_card import ModelCard
from scripts.training.training_table import EmbeddingTable


def two_rows(**columns: object) -> list[dict[str, object]]:
    return [{"slide": f"{name}.tif", "label": label, **columns} for name, label in (("a", 0), ("b", 1))]


@pytest.fixture
def pair(tmp_path: Path) -> Path:
    """Slides a and b, of two classes, both to train."""
    for name in ("a", "b"):
        write_embedding(tmp_path / f"{name}.h5")
    return write_table(tmp_path, two_rows(split="train"))


def test_items(tmp_path: Path) -> None:
    table = EmbeddingTable(write_dataset(tmp_path))
    items = table.items("val")
    assert [item["slide_id"] for item in items] == ["val_0", "val_1", "val_2", "val_3"]
    assert [item["label"] for item in items] == [0, 1, 0, 1]
    assert items[0]["embedding"] == str(tmp_path / "val_0.h5")
    assert items[0]["patient"] == "val_0"
    assert len(table.items()) == 10
    assert (table.channels, table.thumbnail_levels, table.encoder) == (8, 3, "Random sha256:0")
    table.require_trainable("train", "val", "test")


def test_no_table(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"slides\.csv: no such file; expected the slide table.*--slides"):
        EmbeddingTable(tmp_path)


def test_missing_embeddings_are_named_and_may_be_left_out(pair: Path, caplog: pytest.LogCaptureFixture) -> None:
    (pair / "b.h5").unlink()
    with pytest.raises(
        RequestError, match=r"1 of 2 slides have no embedding.*the first is b\.h5.*--table#allow_missing true"
    ):
        EmbeddingTable(pair)
    with caplog.at_level(logging.WARNING):
        assert [item["slide_id"] for item in EmbeddingTable(pair, allow_missing=True).items()] == ["a"]
    assert "1 of 2 slides have no embedding and are left out" in caplog.text
    (pair / "a.h5").unlink()
    with pytest.raises(RequestError, match="no slide has an embedding"):
        EmbeddingTable(pair, allow_missing=True)


def test_a_split_without_slides(pair: Path) -> None:
    with pytest.raises(RequestError, match=r"slides\.csv: no labelled slide in split 'val'; expected a column split"):
        EmbeddingTable(pair).items("val")


def test_no_split_column(pair: Path) -> None:
    write_table(pair, two_rows())
    with pytest.raises(RequestError, match=r"no labelled slide in split 'train'.*assign the slides to splits"):
        EmbeddingTable(pair).items("train")


def test_unlabelled_slides(pair: Path) -> None:
    write_table(
        pair, [{"slide": "a.tif", "label": "", "split": "test"}, {"slide": "b.tif", "label": 1, "split": "test"}]
    )
    table = EmbeddingTable(pair, classes=["0", "1"])
    assert [item["slide_id"] for item in table.items("test")] == ["b"]


def test_without_any_label_nothing_can_be_trained(pair: Path) -> None:
    write_table(pair, [{"slide": f"{name}.tif", "label": "", "split": "train"} for name in ("a", "b")])
    with pytest.raises(RequestError, match="none of the 2 slides in split 'train' has a label, expected one each"):
        EmbeddingTable(pair).require_trainable("train")


def test_one_class_in_a_split(tmp_path: Path) -> None:
    table = EmbeddingTable(write_dataset(tmp_path, val=1))
    table.require_trainable("train")
    with pytest.raises(RequestError, match="split 'val' holds no slide of class 1; expected slides of every class"):
        table.require_trainable("train", "val")


def test_one_class_in_all(pair: Path) -> None:
    write_table(pair, [{"slide": f"{name}.tif", "label": 1, "split": "train"} for name in ("a", "b")])
    with pytest.raises(RequestError, match="only one class, 1; expected two or more"):
        EmbeddingTable(pair).require_trainable("train")


def test_class_names_and_their_order(pair: Path) -> None:
    rows = two_rows(split="train")
    for row, label in zip(rows, ("tumour", "normal"), strict=True):
        row["label"] = label
    write_table(pair, rows)
    assert [item["label"] for item in EmbeddingTable(pair).items()] == [1, 0]
    assert [item["label"] for item in EmbeddingTable(pair, classes=["tumour", "normal"]).items()] == [0, 1]
    with pytest.raises(RequestError, match="label 'normal'"):
        EmbeddingTable(pair, classes=["tumour", "benign"])


def test_encoders_of_different_width(pair: Path) -> None:
    write_embedding(pair / "b.h5", channels=16)
    with pytest.raises(RequestError, match=r"different width \(most 8 channels; b\.h5 16\), expected one encoder"):
        _ = EmbeddingTable(pair).channels


@pytest.mark.parametrize(
    ("labels", "classes", "warned"),
    [
        (("cancer", "normal"), None, True),
        (("cancer", "normal"), ["cancer", "normal"], False),
        (("normal", "tumor"), None, False),
        (("benign", "malignant"), None, False),
    ],
)
def test_a_positive_class_without_lesions_is_said(
    labels: tuple[str, str], classes: list[str] | None, warned: bool, pair: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [
        {"slide": f"{name}.tif", "label": label, "split": "train"} for name, label in zip("ab", labels, strict=True)
    ]
    EmbeddingTable(write_table(pair, rows), classes=classes).require_trainable("train")
    told = "the second class, which is the positive one and for recommended.yaml the one with lesions, is 'normal': "
    told += "--classes \"['normal','cancer']\" turns the order round"
    found = [message for message in caplog.messages if message.startswith("the second class")]
    assert found == ([told] if warned else [])


def test_different_precisions(pair: Path) -> None:
    """Files that do not say it, as of before, go with any."""
    write_embedding(pair / "a.h5", precision="bfloat16")
    assert EmbeddingTable(pair).precision == "bfloat16"
    write_embedding(pair / "b.h5", precision="float32")
    with pytest.raises(RequestError, match=r"2 different precisions \(most bfloat16; b\.h5 float32\)"):
        EmbeddingTable(pair).require_trainable("train")


def test_different_encoders(pair: Path) -> None:
    write_embedding(pair / "b.h5", encoder="Other sha256:1")
    with pytest.raises(RequestError, match="2 different encoders"):
        _ = EmbeddingTable(pair).encoder
    with pytest.raises(RequestError, match="2 different encoders"):  # before a training, not at its end
        EmbeddingTable(pair).require_trainable("train")


def test_different_thumbnails(pair: Path) -> None:
    write_embedding(pair / "b.h5", levels=2)
    with pytest.raises(RequestError, match=r"thumbnails of \[2, 3\] levels"):
        _ = EmbeddingTable(pair).thumbnail_levels


def test_fewer_levels_than_the_files_hold(pair: Path) -> None:
    write_embedding(pair / "b.h5", levels=5)
    table = EmbeddingTable(pair, levels=2)
    assert table.thumbnail_levels == table.items()[0]["thumbnail_levels"] == 2
    with pytest.raises(
        RequestError, match=r"4 thumbnail levels asked for, the embeddings hold 3.*--settings#thumbnail_levels 4"
    ):
        _ = EmbeddingTable(pair, levels=4).thumbnail_levels
    write_embedding(pair / "b.h5", levels=None)
    assert EmbeddingTable(pair, levels=2).thumbnail_levels == 0


def test_a_range_of_channels(pair: Path) -> None:
    table = EmbeddingTable(pair, channel_range=[2, 5])
    assert (table.channels, table.items()[0]["channel_range"]) == (3, (2, 5))
    assert EmbeddingTable(pair).items()[0]["channel_range"] == (0, 8)
    for wrong in ([2, 9], [3, 3], [-1, 2]):
        with pytest.raises(RequestError, match=r"the embeddings have \[0, 8\)"):
            _ = EmbeddingTable(pair, channel_range=wrong).channels


@pytest.mark.parametrize("thumbnail_stream", [True, False])
def test_the_card_of_a_model_decides(pair: Path, thumbnail_stream: bool) -> None:
    network = {"thumbnail_stream": thumbnail_stream, "thumbnail_levels": 3, "embedding_channels": 8}
    card = ModelCard(
        class_names=("0", "1"),
        threshold=0.5,
        threshold_from="val",
        encoder=None,
        network=network,
        channel_range=(2, 5),
    )
    table = EmbeddingTable(pair, card=card, levels=3, channel_range=[2, 5])
    assert table.channel_range == (2, 5)
    with pytest.raises(RequestError, match=r"--table#channel_range \(2, 6\): the model was trained on \(2, 5\)"):
        EmbeddingTable(pair, card=card, channel_range=[2, 6])
    if thumbnail_stream:
        with pytest.raises(RequestError, match="--table#levels 2: the model was trained on 3, and its card decides"):
            EmbeddingTable(pair, card=card, levels=2)
    else:
        EmbeddingTable(pair, card=card, levels=2)


def test_a_file_that_is_no_embedding_is_named(pair: Path) -> None:
    (pair / "b.h5").write_text("nothing")
    with pytest.raises(SlideError, match=r"b\.h5: not a readable HDF5 file"):
        _ = EmbeddingTable(pair).channels


def test_without_thumbnail_and_slide_one_stream_is_left(pair: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_embedding(pair / "b.h5", levels=None)
    with caplog.at_level(logging.WARNING):
        assert EmbeddingTable(pair).thumbnail_levels == 0
    assert "the network runs on the embedding stream alone" in caplog.text


def test_a_test_slide_without_thumbnail_changes_no_network(tmp_path: Path) -> None:
    for name, levels in (("a", 3), ("b", 3), ("c", None), ("d", None)):
        write_embedding(tmp_path / f"{name}.h5", levels=levels)
    rows = [
        {"slide": f"{name}.tif", "label": 0, "split": split}
        for name, split in zip("abcd", ("train", "val", "test", ""), strict=True)
    ]
    assert EmbeddingTable(write_table(tmp_path, rows)).thumbnail_levels == 3


def test_the_slide_stands_in_for_a_missing_thumbnail(tmp_path: Path) -> None:
    slides = write_tiny_slide_set(tmp_path)
    rows = [{"slide": "slides/train_000.tif", "label": 0, "split": "train"}]
    write_foreign(slides.parent / "train_000.h5", np.argwhere(np.ones((4, 4), dtype=bool)))
    write_table(tmp_path, rows)
    table = EmbeddingTable(tmp_path)
    assert table.thumbnail_levels == 3
    assert table.encoder == "unknown"


def test_a_digest_is_of_the_slides_of_its_splits(tmp_path: Path) -> None:
    """An embedding, a label or a patient that changes, changes it; what happens to other splits does not."""
    dataset = write_dataset(tmp_path)

    def digests() -> tuple[str, str]:
        table = EmbeddingTable(dataset)
        return table.digest("train", "val"), table.digest()

    seen, every = digests()
    assert (seen, every) == digests()
    write_embedding(dataset / "test_0.h5", seed=99)
    assert digests()[0] == seen and digests()[1] != every
    write_embedding(dataset / "train_0.h5", seed=99)
    others = [digests()[0]]
    content = (dataset / "slides.csv").read_text()
    for old, new in (("val_0.tif,0,val,val_0", "val_0.tif,1,val,val_0"), ("val,val_0", "val,val_1")):
        assert old in content
        (dataset / "slides.csv").write_text(content.replace(old, new))
        others.append(digests()[0])
    assert len({seen, *others}) == 4


def test_a_table_of_some_slides_finds_what_a_table_of_all_named(tmp_path: Path) -> None:
    for name in ("x_03", "y_03"):
        write_embedding(tmp_path / f"{name}.h5")
    for listed, ids in ((["x", "y"], ["x_03", "y_03"]), (["x"], ["x_03"]), (["y"], ["y_03"])):
        write_table(tmp_path, [{"slide": f"{folder}/03.tif", "label": 0} for folder in listed])
        assert [row.slide_id for row in EmbeddingTable(tmp_path).rows] == ids


def test_names_with_dots_and_without_a_suffix_are_whole(tmp_path: Path) -> None:
    write_foreign(tmp_path / "TCGA-t0.uuid-t0.h5", np.argwhere(np.ones((4, 4), dtype=bool)))
    write_table(tmp_path, [{"slide": "TCGA-t0.uuid-t0", "label": 0}])
    assert [row.slide_id for row in EmbeddingTable(tmp_path).rows] == ["TCGA-t0.uuid-t0"]


def test_all_files_that_cannot_be_read_are_named_at_once(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path, train=4, val=2, test=1)
    (folder / "train_1.h5").write_text("text")
    with h5py.File(folder / "train_2.h5", "r+") as file:
        file["features"][3, 1] = 0.5
    write_foreign(folder / "val_0.h5", np.array([[0, 0], [1 << 24, 1 << 24]]))
    table = EmbeddingTable(folder)
    with pytest.raises(SlideError, match="3 of 7 embeddings cannot be used") as error:
        table.require_trainable("train", "val")
    assert "\n" not in str(error.value)
    for name, reason in (("train_1", "not a readable HDF5"), ("train_2", "checksum"), ("val_0", "grid of")):
        assert re.search(rf"{name}\.h5: [^|]*{reason}", str(error.value))


def test_a_file_of_no_known_encoder_beside_others(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = write_dataset(tmp_path, train=2, val=2, test=0)
    write_foreign(folder / "train_0.h5", np.argwhere(np.ones((3, 4))))
    assert EmbeddingTable(folder).encoder == "Random sha256:0"
    assert "1 of 4 embeddings do not say by which encoder" in caplog.text
    write_embedding(folder / "train_1.h5", encoder="Other sha256:1")
    with pytest.raises(RequestError, match=r"2 different encoders \(most Random sha256:0; train_1\.h5 Other"):
        _ = EmbeddingTable(folder).encoder


def test_a_file_of_another_name_is_pointed_at(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path, train=2, val=0, test=0)
    (folder / "train_0.h5").rename(folder / "train_0.tif.h5")
    with pytest.raises(RequestError, match=r"the first is train_0\.h5\); there is train_0\.tif\.h5: rename it, or"):
        EmbeddingTable(folder)
    (tmp_path / "train_0.tif.h5").unlink()
    (tmp_path / "train_0.zarr").mkdir()
    with pytest.raises(RequestError, match=r"there is train_0\.zarr: name the folder of the \.h5 files"):
        EmbeddingTable(tmp_path)


@pytest.mark.parametrize(
    ("slide", "hint"),
    [
        ("int.ome.tif", r"the first is int\.ome\.h5\); there is int\.h5: .*in the table's column slide_id"),
        (r"D:\scans\int.svs", r"; D:\\scans\\int\.svs holds backslashes, .*: write slashes .*a column slide_id"),
    ],
)
def test_a_slide_called_otherwise_than_its_features(tmp_path: Path, slide: str, hint: str) -> None:
    write_embedding(tmp_path / "int.h5")
    with pytest.raises(RequestError, match=hint):
        EmbeddingTable(write_table(tmp_path, [{"slide": slide, "label": 0}]))
    write_table(tmp_path, [{"slide": slide, "slide_id": "int", "label": 0}])
    assert [row.slide_id for row in EmbeddingTable(tmp_path).rows] == ["int"]
    write_table(tmp_path, [{"slide": slide, "slide_id": "other", "label": 0}])
    with pytest.raises(RequestError, match=r"the first is other\.h5\); encode them"):
        EmbeddingTable(tmp_path)


def test_features_with_another_suffix_are_to_be_renamed(tmp_path: Path) -> None:
    write_embedding(tmp_path / "int.h5").rename(tmp_path / "int.hdf5")
    with pytest.raises(RequestError, match=r"there is int\.hdf5: rename it int\.h5;"):
        EmbeddingTable(write_table(tmp_path, [{"slide": "int.svs", "label": 0}]))


def test_words_for_a_missing_label_are_left_out_and_counted_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    words = ("NA", "0.0", "1.0", "NaN", "-", "")
    for index in range(len(words)):
        write_embedding(tmp_path / f"s{index}.h5")
    write_table(
        tmp_path, [{"slide": f"s{index}.tif", "label": word, "split": "train"} for index, word in enumerate(words)]
    )
    table = EmbeddingTable(tmp_path)
    assert table.class_names == ["0", "1"]
    assert [(item["slide_id"], item["label"]) for item in table.items("train")] == [("s1", 0), ("s2", 1)]
    table.items("train")
    assert caplog.text.count("4 of 6 slides in split 'train' have no label") == 1


def test_where_a_label_is_required(pair: Path) -> None:
    write_table(pair, [{"slide": f"{name}.tif", "label": "NA", "split": "train"} for name in ("a", "b")])
    with pytest.raises(RequestError, match=r"none of the 2 slides in split 'train' has a label, expected one each"):
        EmbeddingTable(pair, classes=["0", "1"]).items("train")


def test_classes_of_an_earlier_model_and_classes_that_are_none(pair: Path) -> None:
    write_table(pair, [{"slide": f"{name}.tif", "label": label} for name, label in (("a", "1.0"), ("b", "0"))])
    assert [item["label"] for item in EmbeddingTable(pair, classes=["0.0", "1.0"]).items()] == [1, 0]
    with pytest.raises(RequestError, match="'None' stands for a missing label, expected names of classes"):
        EmbeddingTable(pair, classes=["None", "1"])
