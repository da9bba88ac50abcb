"""Install the pinned torch, and refuse the CUDA build on a machine without a GPU.

On Linux the default wheel brings several GB of CUDA packages. pip is asked what it *would* install; if that includes
CUDA packages and there is no NVIDIA driver here, nothing is installed and the message says what to set.
"""

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

CUDA_PREFIXES = ("nvidia-", "cuda-", "triton")


def main() -> int:
    """Install torch at the version pinned in the constraints file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--constraints", type=Path, required=True)
    parser.add_argument(
        "--index", default="", help="another package index, such as PyTorch's CPU one"
    )
    parser.add_argument("--allow-cuda", action="store_true")
    arguments = parser.parse_args()
    wanted = pinned_torch(arguments.constraints)
    if installed_torch() == wanted:
        return 0
    options = ["--index-url", arguments.index] if arguments.index else []
    if not arguments.allow_cuda and not shutil.which("nvidia-smi"):
        planned = planned_packages(wanted, options)
        cuda = [name for name in planned if name.startswith(CUDA_PREFIXES)]
        if cuda:
            print(
                f"torch=={wanted} from the default index brings {len(cuda)} CUDA packages, and this "
                "machine has no NVIDIA driver. Use PyTorch's CPU wheels: "
                "make <target> TORCH_INDEX=<address of the CPU index, see pytorch.org/get-started>; "
                "or ALLOW_CUDA=1 to take the large build.",
                file=sys.stderr,
            )
            return 1
    return subprocess.call([*pip(), "install", *options, f"torch=={wanted}"])


def pip() -> list[str]:
    """The pip of this interpreter, quiet."""
    return [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]


def pinned_torch(constraints: Path) -> str:
    """The version of torch in the constraints file."""
    lines = constraints.read_text().splitlines()
    return next(line.split("==")[1].strip() for line in lines if line.startswith("torch=="))


def installed_torch() -> str:
    """The installed version without its local part, "" for none."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("torch").split("+")[0]
    except PackageNotFoundError:
        return ""


def planned_packages(version: str, options: list[str]) -> list[str]:
    """Names of the packages that pip would install for torch."""
    command = [*pip(), "install", "--dry-run", "--report", "-", *options, f"torch=={version}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [item["metadata"]["name"].lower() for item in json.loads(done.stdout)["install"]]


if __name__ == "__main__":
    sys.exit(main())
