"""Which pretrained SAEs there are, from the list that comes with sae-lens; nothing is fetched."""

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from mechprobe.errors import ConfigError
from mechprobe.saes.lens import import_sae_lens


@dataclass(frozen=True, kw_only=True, slots=True)
class Release:
    """One release: SAEs of one kind for one model."""

    name: str
    model: str
    repository: str
    """On the Hugging Face hub."""
    format: str
    """Name of the sae-lens loader."""
    saes: tuple["ReleasedSae", ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class ReleasedSae:
    """One SAE of a release."""

    sae_id: str
    path: str
    """In the repository."""
    l0: float | None
    """Active features on a token, as its makers state it."""
    explained_variance: float | None


def find_releases(model: str = "") -> list[Release]:
    """The releases for a model, by any part of its name; all where none is given.

    Raises:
        ConfigError: there is no SAE for such a model.
    """
    releases = list(_releases())
    wanted = model.rpartition("/")[2].lower()
    found = [release for release in releases if wanted in release.model.lower()]
    if not found:
        names = sorted({release.model for release in releases})
        near = difflib.get_close_matches(model, names, n=5, cutoff=0.3) or names[:5]
        raise ConfigError(
            f"sae-lens knows no SAE for a model named {model!r}; near names: {', '.join(near)}. Train one with "
            "`mechprobe sae train`."
        )
    return found


def find_release(name: str) -> Release:
    """One release.

    Raises:
        ConfigError: there is no such release.
    """
    releases = {release.name: release for release in _releases()}
    if name not in releases:
        near = difflib.get_close_matches(name, releases, n=5, cutoff=0.3)
        raise ConfigError(
            f"sae-lens knows no release {name!r}; near names: {', '.join(near) or 'none'}."
        )
    return releases[name]


def _releases() -> Iterator[Release]:
    directory: Any = import_sae_lens("sae_lens.loading.pretrained_saes_directory")
    for name, entry in sorted(directory.get_pretrained_saes_directory().items()):
        yield Release(
            name=name,
            model=entry.model,
            repository=entry.repo_id,
            format=entry.conversion_func or "sae_lens",
            saes=tuple(
                ReleasedSae(
                    sae_id=sae_id,
                    path=path,
                    # 0 and 1 are what sae-lens puts where nothing is stated.
                    l0=_stated(entry.expected_l0.get(sae_id), 0),
                    explained_variance=_stated(entry.expected_var_explained.get(sae_id), 1),
                )
                for sae_id, path in entry.saes_map.items()
            ),
        )


def _stated(figure: float | int | None, placeholder: int) -> float | None:
    return None if figure is None or figure == placeholder else float(figure)
