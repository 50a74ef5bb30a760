"""The table of ``benchmarks/transformation.py``, out of its ``results.json``."""

import statistics
from collections.abc import Iterator

from repeated_slide import SIDES_PX
from transformation_speed import FLOPS_PER_PATCH

PAPER_MS = 44.1  # network path a 1e8 pixels on an RTX 2080 (V-A)


def judged(value: float, bar: float, *, least: bool = True) -> str:
    """Say the bar, and whether it is met."""
    met = value >= bar if least else value <= bar
    return f"{'>=' if least else '<='} {bar:g}: {'met' if met else 'NOT met'}"


def of_parts(levels: dict[str, dict], threads: int, engine: str) -> Iterator[tuple[str, str, str]]:
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


def report(results: dict[str, dict]) -> str:
    """Make the table out of ``results``."""
    lines = ["| what | figure | bar |", "|---|---|---|"]

    def add(what: str, figure: str, bar: str = "") -> None:
        lines.append(f"| {what} | {figure} | {bar} |")

    if "speed" in results:
        rates = {name: statistics.median(turns) for name, turns in results["speed"]["turns"].items()}
        sizes = results["speed"]["sizes"]
        for name, rate in rates.items():
            add(name, f"{rate:,.0f}" + ("" if "GFLOP" in name else " tiles/s" if "tiles" in name else " patches/s"))
        engine = "openvino" if "encoder openvino float32, auto" in rates else "torch"
        for level in ("auto", "highest"):
            share = rates[f"reader, {level}"] / rates[f"raw, {level}"]
            add(f"reader / raw, {level}", f"{share:.2f}", judged(share, 0.9))
            for name in [f"{engine} float32", "torch float32"] if engine != "torch" else ["torch float32"]:
                slower = min(rates[f"reader, {level}"], rates[f"encoder {name}, {level}"])
                ratio = slower / rates[f"end to end {name}, {level}"]
                add(
                    f"end to end / slower of reader and encoder, {name}, {level}",
                    f"{ratio:.2f}",
                    judged(ratio, 1.1, least=False),
                )
        for precision, bar in (("float32", 60), ("bfloat16", 150)):
            rate = rates.get(f"end to end {engine} {precision}, auto")
            if rate is not None:  # OpenVINO has no bfloat16 on some processors
                ratio = rate / rates["CLAM recipe"]
                add(f"end to end / CLAM recipe, {engine} {precision}, auto", f"{ratio:.0f}", judged(ratio, bar))
        ratio = rates["reader, highest, as many patches"] / rates["MONAI reading, windows of the box"]
        add("reader / MONAI reading, level 0", f"{ratio:.1f}", judged(ratio, 2.5))
        for what in (f"network {engine} float32", f"encoder {engine} float32, auto"):
            share = rates[what] * FLOPS_PER_PATCH / 1e9 / rates["matrix product GFLOP/s"]
            add(f"{what}, share of the matrix product", f"{share:.2f}", judged(share, 0.5))
        per = 1000 * sizes["patches"] / sizes["slide_1e8_px"]
        for what, name in (
            ("network", f"network {engine} float32"),
            ("end to end", f"end to end {engine} float32, auto"),
        ):
            add(f"{what}, ms a 1e8 pixels (paper, network on a GPU: {PAPER_MS})", f"{per / rates[name]:,.0f}")
        add("bytes in / of pixels / out", f"{sizes['bytes_in']:,} / {sizes['pixel_bytes']:,} / {sizes['bytes_out']:,}")
        add(
            "pixels / file",
            f"{sizes['pixel_bytes'] / sizes['bytes_out']:.0f}",
            f"paper's formula: {sizes['ratio_of_formula']:.1f}",
        )
    if "parts" in results:
        for row in of_parts(**results["parts"]):
            add(*row)
    if "engines" in results:
        for name, turns in results["engines"]["turns"].items():
            rate = statistics.median(turns)
            figure = f"{rate:,.0f} patches/s"
            if "speed" in results:
                share = rate * FLOPS_PER_PATCH / 1e9 / rates["matrix product GFLOP/s"]
                figure += f", {share:.2f} of the matrix product"
            add(f"encoder float32: {name}", figure)
    if "memory" in results:
        peaks = {name: entry["peak_bytes"] for name, entry in results["memory"].items()}
        for name, entry in results["memory"].items():
            rate = entry["patches"] / entry["seconds"]
            per = 1000 * entry["seconds"] / (SIDES_PX[name] ** 2 / 1e8)
            add(f"{name} pixels", f"{entry['patches']:,} patches, {rate:,.0f} patches/s, {per:,.0f} ms a 1e8 pixels")
            add(
                f"peak memory, {name} pixels",
                f"{peaks[name] / 2**20:,.0f} MiB",
                judged(peaks[name] / 2**30, 3, least=False),
            )
        if {"1e9", "1e10"} <= set(peaks):
            growth = peaks["1e10"] / peaks["1e9"]
            add("peak memory, 1e10 / 1e9 pixels", f"{growth:.2f}", judged(growth, 1.2, least=False))
    if "workers" in results:
        taken = {count: statistics.median(turns) for count, turns in results["workers"]["seconds"].items()}
        for count, elapsed in taken.items():
            add(f"{count} workers, {results['workers']['slides']} slides", f"{elapsed:.1f} s")
        gain = taken["1"] / taken["2"]
        add("2 workers / 1 worker", f"{gain:.2f}", judged(gain, 1.7))
    return "\n".join(lines)
