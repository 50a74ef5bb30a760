"""Command line of the application: finds the bundle, makes its code importable, runs, and ends with the bundle's exit codes."""

import sys
from pathlib import Path

from monai.deploy.core import AppContext, RuntimeEnv, parse_args
from monai.deploy.core.arg_parser import set_up_logging

WRONG_REQUEST = 2


def find_bundle(model_path: Path) -> Path:
    """Return the folder of the bundle: ``model_path`` itself, or the one folder in it that is a bundle.

    Raises:
        ValueError: there is none, or more than one.
    """
    found = [
        path.parent.parent
        for path in (model_path / "configs/metadata.json", *model_path.glob("*/configs/metadata.json"))
    ]
    found = [folder for folder in found if (folder / "configs" / "metadata.json").is_file()]
    if len(found) != 1:
        raise ValueError(
            f"{model_path}: {len(found)} bundles, expected one: name with --model the folder that holds its configs, models and scripts"
        )
    return found[0].resolve()


def main(argv: list[str]) -> int:
    """Run the application and return its exit code: 0 all done, 1 a slide failed, 2 the request is wrong."""
    args = parse_args(argv)  # init_app_context would log the paths of the slides
    set_up_logging(args.log_level)
    given = {name: str(value) for name, value in vars(args).items() if value and name != "argv"}
    try:
        bundle = find_bundle(Path(given.get("model", RuntimeEnv().model)))
    except ValueError as error:
        print(error, file=sys.stderr)
        return WRONG_REQUEST
    sys.path.insert(0, str(bundle))
    from app import run  # it imports the bundle's code

    return run(bundle, AppContext({**given, "model": str(bundle / "models" / "model.ts")}))


if __name__ == "__main__":
    sys.exit(main(sys.argv))
