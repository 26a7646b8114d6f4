"""The page that is made of a proof on a card."""

import json

import proof_page
import prove_on_gpu
import pytest

CARD = {
    "name": "NVIDIA of this test", "compute_capability": "9.0", "memory_bytes": 80 * 2**30,
    "peak_bytes_per_second": 2e12, "cuda_of_the_driver": "13.0", "cuda": "12.9", "cupy": "14.2.0",
    "driver": "580.1",
}  # fmt: skip


def row_of(name, state="good", seconds=1.4, why="", **figures):
    command = f"python {name}.py"
    return {"name": name, "about": f"shows {name}", "command": command, "state": state, "why": why, "rc": 0,
            "seconds": seconds, "figures": figures}  # fmt: skip


def timed(size, dtype, **seconds):
    ratios = {name: s / seconds["gpuprop"] for name, s in seconds.items()}
    return {"size": size, "dtype": dtype, "bytes_per_step": 20 * size, "seconds_per_step": seconds,
            "ratio_to_gpuprop": ratios}  # fmt: skip


PROOF = {
    "date": "2026-01-02T03:04:05+00:00", "seconds": 12.3, "card": CARD, "good": False,
    "versions": {"python": "3.12.3", "cupy-cuda12x": "14.2.0"},
    "left_out": {"torch single": "torch is not\ninstalled"},
    "parts": [
        row_of("tests", passed=4, skipped=1, failed=[]),
        row_of("sizes", rounds=9, rows=[
            timed(1000, "float32", gpuprop=2e-5, floor=1e-5),
            timed(33_000_000, "float32", gpuprop=4e-4, floor=3.3e-4),
            timed(1000, "float16", gpuprop=1e-5, floor=5e-6),
        ]),
        row_of("peers", rounds=9, rows=[
            timed(2, "float32", gpuprop=1e-5, floor=5e-6, article=2e-4),
            timed(10**6, "float32", gpuprop=2e-5, article=1e-4),
        ]),
        row_of("launches", host_seconds={"RMSProp": 1.5e-5}, passes=[],
               graphs=[{"size": 1000, "seconds_per_step": {"launches": 1.5e-5, "graphs of 10": 1.25e-6}}]),
        row_of("peers by dtype", state="failed", why="it broke\nin two", seconds=61.0),
    ],
}  # fmt: skip
PAGE = """\
# On an NVIDIA of this test

`python scripts/prove_on_gpu.py --out FOLDER` wrote this page on 2026-01-02, in 12 s.

NVIDIA of this test, compute capability 9.0, 80 GiB at 2.00 TB/s; driver 580.1, CUDA 12.9 (the driver's: 13.0); python 3.12.3, cupy-cuda12x 14.2.0.

| part | what it shows |  | s |
| --- | --- | --- | ---: |
| tests | shows tests | good: 4 passed, 1 skipped | 1 |
| sizes | shows sizes | good | 1 |
| peers | shows peers | good | 1 |
| launches | shows launches | good | 1 |
| peers by dtype | shows peers by dtype | failed | 61 |

```sh
python tests.py
python sizes.py
python peers.py
python launches.py
python peers by dtype.py
```

peers by dtype failed:

```text
it broke
in two
```

## Every dtype and size

Of one step: shares of the memory's peak, and in brackets those of a kernel that only reads and writes the same arrays. Medians of 9 rounds, in which both took turns. A last size that is no power of ten is the largest that fits into the card's memory.

| parameters | float32 | float16 |
| ---: | ---: | ---: |
| 10³ | 0.05% (0.1%) | 0.1% (0.2%) |
| 33,000,000 | 82% (100%) |  |

![Share of the memory's peak that a step reaches](shares.png)

## Against other libraries

One float32 step on the same arrays, in steps of gpuprop: medians of the ratios of 9 rounds. The floor is a kernel that only reads and writes those arrays.

|  | 2 | 10⁶ |
| --- | ---: | ---: |
| floor | 0.50 |  |
| **gpuprop** | 1.00 | 1.00 |
| the article's lines in CuPy | 20 | 5.00 |
| gpuprop, µs a step | 10 | 20 |

## Launches

What the host does for a step of two parameters, which is more than the card does:

|  | µs a step |
| --- | ---: |
| RMSProp | 15 |

A float32 step in a CUDA graph of so many, in µs, to the same bits:

|  | 10³ |
| --- | ---: |
| launches | 15 |
| graphs of 10 | 1.25 |

## Left out

- torch single: torch is not installed
"""  # noqa: E501 - as a reader of Markdown gets it


def test_the_page_of_a_proof(tmp_path, capsys):
    (tmp_path / "shares.png").touch()
    (tmp_path / "proof.json").write_text(json.dumps(PROOF))
    assert proof_page.page(PROOF, tmp_path) == PAGE
    assert prove_on_gpu.main(["--page", str(tmp_path / "proof.json")]) == 0
    assert capsys.readouterr().out == PAGE


def test_a_page_of_a_card_whose_peak_is_not_known_has_gigabytes(tmp_path):
    card = CARD | {"peak_bytes_per_second": None, "driver": None}
    page = proof_page.page(PROOF | {"card": card}, tmp_path)
    assert "80 GiB; CUDA 12.9" in page
    assert "| 33,000,000 | 1.65e+03 (2e+03) |  |" in page


@pytest.mark.parametrize("text", ["{}", "[]", "nonsense", '{"parts": 3}'])
def test_what_is_no_proof_has_no_page(text, tmp_path, capsys):
    (tmp_path / "proof.json").write_text(text)
    assert prove_on_gpu.main(["--page", str(tmp_path / "proof.json")]) == 2
    assert "is no proof.json: " in capsys.readouterr().err
    assert prove_on_gpu.main(["--page", str(tmp_path / "none")]) == 2
