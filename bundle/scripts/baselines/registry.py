"""The networks of this folder, by the names that a model card gives them."""

from ..dsnet.baseline import Baseline
from .attention_pooling import AttentionPooling
from .centres import CentreEmbeddings
from .clam import ClamSB
from .convolutional import EmbeddingResNet, NaiveThumbnail, TellezClassifier
from .dsmil import Dsmil
from .global_local import GlobalLocal
from .graph import GraphPooling
from .patchwise import DiscriminativePatches, RectifiedPatches
from .pooled import ColourStatistics, MeanPooling, NearestMean
from .supervised import HeatMapForest
from .transmil import TransMil

BASELINES: tuple[type[Baseline], ...] = (
    AttentionPooling,
    ClamSB,
    Dsmil,
    TransMil,
    MeanPooling,
    NearestMean,
    ColourStatistics,
    NaiveThumbnail,
    TellezClassifier,
    EmbeddingResNet,
    RectifiedPatches,
    DiscriminativePatches,
    GraphPooling,
    HeatMapForest,
    CentreEmbeddings,
    GlobalLocal,
)
