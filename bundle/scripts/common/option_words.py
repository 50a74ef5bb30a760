"""Words that options and tables may hold: each list stands here once, as a type.

The option table checks by it, annotations name it, and messages quote it. :func:`words` is the list itself. What is kept per word,
such as a data type per precision, is a dictionary beside the code that uses it.
"""

from typing import Any, Literal, get_args

# slide tables
Split = Literal["train", "val", "test"]
# data sets that are listed
Normal086 = Literal["relabel", "drop", "keep"]
DropOrKeep = Literal["drop", "keep"]
CamelyonLabels = Literal["binary", "stages"]
IsolatedCells = Literal["tumor", "normal", "drop"]
Section = Literal["frozen", "diagnostic", "any"]
# reading of slides, and their tissue
Backend = Literal["cucim", "openslide", "tifffile"]
BackendChoice = Literal["auto", Backend]
UnreadableTiles = Literal["fail", "mask"]
LevelRule = Literal["auto", "highest"]
ReadLevel = LevelRule | int
TissueMethod = Literal["rle", "otsu"]
# patch encoders and their engines
Objective = Literal["paper", "extended"]
Strategy = Literal["separated", "mixed", "foreground", "background"]
Engine = Literal["auto", "torch", "openvino"]
Precision = Literal["float32", "bfloat16", "float16"]
PrecisionChoice = Literal["auto", Precision]
# networks and their heat maps
Head = Literal["slide", "patch"]
Fusion = Literal["logistic", "svm"]
PatchNetwork = Literal["perceptron", "resnet18", "resnet34", "resnet50"]
Cam = Literal["gradcam", "gradcam++", "hirescam", "layercam"]
MapValues = Literal["cam", "probability"]
MapSource = Literal["auto", MapValues]


def words(type_: Any) -> tuple[Any, ...]:
    """The words of one of these types, in their order."""
    return get_args(type_)
