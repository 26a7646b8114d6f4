"""What tests are parametrised by."""

from __future__ import annotations

import pytest

BACKENDS = ["numpy", "cpu", pytest.param("gpu", marks=pytest.mark.gpu)]
COMPILED = BACKENDS[1:]
DTYPES = ["float16", "float32", "float64"]
