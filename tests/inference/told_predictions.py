"""The end of an inference whose predictions are told instead of made: heat maps and results, by the handlers of the config."""

from contextlib import closing
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine

from scripts.dsnet.heat_map import Network
from scripts.inference.heat_maps import HeatMapHandler
from scripts.inference.inference_outputs import PredictionOutputs
from scripts.inference.inference_run import ResultWriter
from scripts.inference.slide_set import InferenceSet
from scripts.training.predicting import PredictionCollector


class ToldCollector(PredictionCollector):
    """Collects the outputs of an engine as they are."""

    def _collect(self, engine: Engine) -> None:
        self._found += [(prediction, None) for prediction in engine.state.output]


def outputs_of(slides: InferenceSet, folder: Path, **settings: Any) -> PredictionOutputs:
    """The folder of predictions of these slides."""
    return PredictionOutputs(folder, slides, weights="scae.pt", settings=settings)


def write_all(
    slides: InferenceSet, told: PredictionCollector, network: Network, output: Path, **options: Any
) -> PredictionCollector:
    """Write what inference writes of ``told.predictions``; ``options`` are those of :class:`HeatMapHandler`."""
    collector = ToldCollector()
    engine = Engine(lambda engine, prediction: [prediction])
    collector.attach(engine)
    outputs = outputs_of(slides, output)
    engine.network, engine.state.device = network, torch.device("cpu")
    with closing(HeatMapHandler(outputs, collector, **options)) as maps:
        maps.attach(engine)
        engine.run(told.predictions)
    ResultWriter(outputs, collector).finish(maps.written)
    return collector
