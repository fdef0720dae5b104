"""The model as MLflow loads it: seeds in, PNGs out. Copied into every model version beside the code that it imports."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pandas as pd  # type: ignore[import-untyped]
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel

from components.data.images import encode_png, straight
from components.generation.sampler import load_generator, sample


class CreatureGenerator(PythonModel):  # type: ignore[misc]
    """A generator folder behind MLflow's predict()."""

    def load_context(self, context: Any) -> None:
        """Reads the artifact `generator`."""
        self.generator = load_generator(Path(context.artifacts["generator"]))

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any]) -> list[dict[str, Any]]:
        """Draws a picture a row.

        Args:
            context: MLflow's, not needed any more.
            model_input: has the column `seed`.
            params: {"psi": 0 to 1, "label": one that the model knows, or "" for one drawn for each seed}.

        Returns:
            [{"seed": 3, "png": base64 text}, …], with straight alpha where the model draws transparent pictures
        """
        psi = params["psi"]
        if not 0 <= psi <= 1:
            raise ValueError(f"psi is {psi}; allowed: 0 to 1")
        seeds = [int(seed) for seed in model_input["seed"]]
        images = sample(self.generator, seeds, psi, params["label"])
        pngs = (base64.b64encode(encode_png(straight(image))).decode("ascii") for image in images)
        return [{"seed": seed, "png": png} for seed, png in zip(seeds, pngs, strict=True)]


set_model(CreatureGenerator())
