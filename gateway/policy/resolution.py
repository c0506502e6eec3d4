"""From the name that a request gives to the model it means, and back."""

import re
from collections.abc import Container, Mapping
from functools import lru_cache

from gateway.policy.document import Model, names_of
from gateway.policy.names import addressed, kinship, skeleton


@lru_cache(maxsize=65_536)
def _likeness(name: str) -> tuple[str, str]:
    """Skeleton and kinship of a catalog's name: it stays from revision to revision, and costs 10 µs and more.

    Not for names that callers make up: they would push these out.
    """
    return skeleton(name), kinship(name)


class Resolution:
    """The names of a catalog's models. ``offline`` are those that answer for whatever looks like them."""

    def __init__(self, models: Mapping[str, Model], offline: Container[str]) -> None:
        self._models = models
        self._exact: dict[tuple[str, str], str] = {}
        self._patterns: list[tuple[str, re.Pattern[str], str]] = []
        self._skeletons: dict[str, list[str]] = {}
        self._kin: dict[str, list[str]] = {}
        for model_id, model in sorted(models.items()):  # replicas read the document sorted
            self._index(model_id, model, model_id in offline)

    def __contains__(self, name: tuple[str, str]) -> bool:
        """Whether the catalog lists this (provider, name), other than by a pattern."""
        return name in self._exact

    def resolve(self, provider: str, name: str) -> str | None:
        """The model that a name means at a provider, exactly; else ``None``.

        An ARN means what its id means. A fine-tune means its base only where the catalog says so by a pattern.
        """
        model_id = self._exact.get((provider, name))
        if model_id is None:
            for owner, pattern, candidate in self._patterns:
                if owner == provider and pattern.fullmatch(name):
                    return candidate
            base = addressed(name)
            return None if base is None else self.resolve(provider, base)
        return model_id

    def lookalikes(self, name: str) -> list[str]:
        """The models that a name looks like, those before whose other editions it could be."""
        return list(dict.fromkeys(self._skeletons.get(skeleton(name), []) + self._kin.get(kinship(name), [])))

    def find(self, name: str) -> str | None:
        """The model an operator means: its id, or a name or alias it has anywhere."""
        if name in self._models:
            return name
        return next((model_id for (_, known), model_id in self._exact.items() if known == name), None)

    def name_at(self, model_id: str, provider: str) -> str | None:
        """The first name a model has at a provider; its id where that is one of them."""
        names = [
            name
            for route in self._models[model_id].routes
            if route.provider == provider
            for name in route.names
            if "*" not in name
        ]
        return model_id if model_id in names else next(iter(names), None)

    def _index(self, model_id: str, model: Model, offline: bool) -> None:
        for provider, name in names_of(model):
            if "*" in name:
                pattern = re.compile(".*".join(re.escape(piece) for piece in name.split("*")))
                self._patterns.append((provider, pattern, model_id))
            else:
                self._exact[provider, name] = model_id
                self._resembles(name, model_id, offline)
        self._resembles(model_id, model_id, offline)

    def _resembles(self, name: str, model_id: str, offline: bool) -> None:
        """What looks like this name looks like this model; of several, one that is offline answers first."""
        bare, kin = _likeness(name)
        for index, key in ((self._skeletons, bare), (self._kin, kin)):
            models = index.setdefault(key, [])
            if model_id not in models:
                models.insert(0 if offline else len(models), model_id)
