"""The model as MLflow loads it: seeds in, PNGs out. Copied into every model version beside the code that it imports."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import pandas as pd  # type: ignore[import-untyped]
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel
from PIL import Image

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
            [{"seed": 3, "png": base64 text}, …]
        """
        psi = params["psi"]
        if not 0 <= psi <= 1:
            raise ValueError(f"psi is {psi}; allowed: 0 to 1")
        seeds = [int(seed) for seed in model_input["seed"]]
        images = sample(self.generator, seeds, psi, params["label"])
        return [{"seed": seed, "png": _base64_png(image)} for seed, image in zip(seeds, images, strict=True)]


def _base64_png(image: Any) -> str:
    """[H, W, 3 or 4] as text."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode("ascii")


set_model(CreatureGenerator())
