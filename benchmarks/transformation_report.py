"""The table of ``benchmarks/transformation.py``, out of its ``results.json``."""

import statistics
from collections.abc import Iterator, Mapping, Sequence

from repeated_slide import SIDES_PX
from transformation_speed import FLOPS_PER_PATCH

Row = tuple[str, str, str]
"""What was measured, the figure, and the bar that it is judged by, if there is one."""

PAPER_MS = 44.1  # network path per 1e8 pixels on an RTX 2080 (V-A)


def judged(value: float, bar: float, *, least: bool = True) -> str:
    """Say the bar, and whether it is met."""
    met = value >= bar if least else value <= bar
    return f"{'>=' if least else '<='} {bar:g}: {'met' if met else 'NOT met'}"


def of_speed(rates: Mapping[str, float], sizes: Mapping[str, float]) -> Iterator[Row]:
    """Yield the rates of one slide, their ratios, and the sizes of its files."""
    for name, rate in rates.items():
        yield name, f"{rate:,.0f}" + ("" if "GFLOP" in name else " tiles/s" if "tiles" in name else " patches/s"), ""
    engine = "openvino" if "encoder openvino float32, auto" in rates else "torch"
    for level in ("auto", "highest"):
        share = rates[f"reader, {level}"] / rates[f"raw, {level}"]
        yield f"reader / raw, {level}", f"{share:.2f}", judged(share, 0.9)
        for name in [f"{engine} float32", "torch float32"] if engine != "torch" else ["torch float32"]:
            slower = min(rates[f"reader, {level}"], rates[f"encoder {name}, {level}"])
            ratio = slower / rates[f"end to end {name}, {level}"]
            what = f"end to end / slower of reader and encoder, {name}, {level}"
            yield what, f"{ratio:.2f}", judged(ratio, 1.1, least=False)
    for precision, bar in (("float32", 60), ("bfloat16", 150)):
        rate = rates.get(f"end to end {engine} {precision}, auto")
        if rate is not None:  # OpenVINO has no bfloat16 on some processors
            ratio = rate / rates["CLAM recipe"]
            yield f"end to end / CLAM recipe, {engine} {precision}, auto", f"{ratio:.0f}", judged(ratio, bar)
    ratio = rates["reader, highest, as many patches"] / rates["MONAI reading, windows of the box"]
    yield "reader / MONAI reading, level 0", f"{ratio:.1f}", judged(ratio, 2.5)
    for name in (f"network {engine} float32", f"encoder {engine} float32, auto"):
        share = share_of_product(rates[name], rates)
        yield f"{name}, share of the matrix product", f"{share:.2f}", judged(share, 0.5)
    ms = 1000 * sizes["patches"] / sizes["slide_1e8_px"]
    for what, name in (("network", f"network {engine} float32"), ("end to end", f"end to end {engine} float32, auto")):
        yield f"{what}, ms per 1e8 pixels (paper, network on a GPU: {PAPER_MS})", f"{ms / rates[name]:,.0f}", ""
    bytes_in, of_pixels, bytes_out = (sizes[name] for name in ("bytes_in", "pixel_bytes", "bytes_out"))
    yield "bytes in / of pixels / out", f"{bytes_in:,} / {of_pixels:,} / {bytes_out:,}", ""
    yield "pixels / file", f"{of_pixels / bytes_out:.0f}", f"paper's formula: {sizes['ratio_of_formula']:.1f}"


def share_of_product(rate: float, rates: Mapping[str, float]) -> float:
    """Return which share of the speed of a matrix product the network has at ``rate`` patches per second."""
    return rate * FLOPS_PER_PATCH / 1e9 / rates["matrix product GFLOP/s"]


def of_parts(levels: dict[str, dict], threads: int, engine: str) -> Iterator[Row]:
    """Yield the processor seconds of the parts, and a whole slide beside the bound that they make."""
    for level, measured in levels.items():
        spent = {part: statistics.median(turns) for part, turns in measured["processor_s"].items()}
        end_to_end = spent.pop("end to end")
        whole, rate = sum(spent.values()), measured["patches"] / statistics.median(measured["seconds"])
        bound = measured["patches"] * threads / whole
        case = f"{engine} float32, {level}"
        for part, seconds in spent.items():
            yield f"processor seconds, {part}, {case}", f"{seconds:.2f} s", ""
        yield f"processor seconds, end to end / sum of its parts, {case}", f"{end_to_end / whole:.2f}", ""
        yield f"bound of {threads} cores, {case}", f"{bound:,.0f} patches/s", ""
        allowed = whole / max(spent["reading"], spent["encoding"])
        yield f"bound of {threads} cores / slower of reader and encoder, {case}", f"{allowed:.2f}", ""
        yield (
            f"end to end / bound of {threads} cores, {case}",
            f"{bound / rate:.2f}",
            judged(bound / rate, 1.1, least=False),
        )
        alone = {part: statistics.median(turns) for part, turns in measured["of_reading"].items()}
        for part, seconds in alone.items():
            yield f"processor seconds, {part} alone, {level}", f"{seconds:.2f} s", ""
        yield f"bound of reader / raw, {level}", f"{alone['decoding'] / sum(alone.values()):.2f}", ""


def of_engines(turns: Mapping[str, Sequence[float]], rates: Mapping[str, float]) -> Iterator[Row]:
    """Yield the rate of every engine; ``rates`` of section "speed" may be empty."""
    for name, of_engine in turns.items():
        rate = statistics.median(of_engine)
        share = f", {share_of_product(rate, rates):.2f} of the matrix product" if rates else ""
        yield f"encoder float32: {name}", f"{rate:,.0f} patches/s{share}", ""


def of_memory(slides: Mapping[str, Mapping[str, float]]) -> Iterator[Row]:
    """Yield rate and peak memory of each size of slides, and how the peak grows with the size."""
    for name, entry in slides.items():
        rate = entry["patches"] / entry["seconds"]
        ms = 1000 * entry["seconds"] / (SIDES_PX[name] ** 2 / 1e8)
        yield f"{name} pixels", f"{entry['patches']:,} patches, {rate:,.0f} patches/s, {ms:,.0f} ms per 1e8 pixels", ""
        peak = entry["peak_bytes"]
        yield f"peak memory, {name} pixels", f"{peak / 2**20:,.0f} MiB", judged(peak / 2**30, 3, least=False)
    if {"1e9", "1e10"} <= set(slides):
        growth = slides["1e10"]["peak_bytes"] / slides["1e9"]["peak_bytes"]
        yield "peak memory, 1e10 / 1e9 pixels", f"{growth:.2f}", judged(growth, 1.2, least=False)


def of_workers(turns: Mapping[str, Sequence[float]], slides: int) -> Iterator[Row]:
    """Yield the seconds of each count of workers, and the gain of the second one."""
    taken = {count: statistics.median(of_count) for count, of_count in turns.items()}
    for count, elapsed in taken.items():
        yield f"{count} workers, {slides} slides", f"{elapsed:.1f} s", ""
    gain = taken["1"] / taken["2"]
    yield "2 workers / 1 worker", f"{gain:.2f}", judged(gain, 1.7)


def report(results: Mapping[str, dict]) -> str:
    """Make the table out of ``results``, which hold the sections that were run."""
    rows: list[Row] = []
    rates: dict[str, float] = {}
    if "speed" in results:
        rates = {name: statistics.median(turns) for name, turns in results["speed"]["turns"].items()}
        rows += of_speed(rates, results["speed"]["sizes"])
    if "parts" in results:
        rows += of_parts(**results["parts"])
    if "engines" in results:
        rows += of_engines(results["engines"]["turns"], rates)
    if "memory" in results:
        rows += of_memory(results["memory"])
    if "workers" in results:
        rows += of_workers(results["workers"]["seconds"], results["workers"]["slides"])
    return "\n".join(["| what | figure | bar |", "|---|---|---|", *(f"| {' | '.join(row)} |" for row in rows)])
