"""Kernels of each rule, dtype, layout and mode: what NVIDIA's compiler is given, and what they must move."""

import importlib.util
from collections import Counter
from itertools import product

from parameters import DTYPES
from trial_rules import CLIPPED, EVERYTHING

from gpuprop import Adam, RMSProp, rules
from gpuprop.rules.composition import direction_of

LAYOUTS = {
    "contiguous": {},
    "contiguous_64_bit_index": {"index_32_bits": False},
    "strided": {"ndim": 2, "contiguous": False},
    "strided_64_bit_index": {"ndim": 2, "contiguous": False, "index_32_bits": False},
}

# bfloat16 is known to NumPy where ml_dtypes is loaded.
DTYPES = [*DTYPES, *(["bfloat16"] if importlib.util.find_spec("ml_dtypes") else [])]
if "bfloat16" in DTYPES:
    import ml_dtypes  # noqa: F401

BOUNDS = [rules.Around(arrays) for arrays in ((), ("lower",), ("upper",), ("lower", "upper"))]
#: Each rule of the package with every number in it, for each choice of arrays.
FULL = {
    "rmsprop": [
        rules.around(rules.rmsprop(v, c), b) for b, v, c in product(BOUNDS, (False, True), (False, True))
    ],
    "sgd": [rules.around(rules.sgd(v), b) for b, v in product(BOUNDS, (False, True))],
    "adagrad": [rules.around(rules.adagrad(), b) for b in BOUNDS],
    "adam": [rules.around(rules.adam(), b) for b in BOUNDS],
}
CASES = {
    f"article_{dtype}_{layout}": (RMSProp().rule, dtype, LAYOUTS[layout])
    for dtype, layout in product(DTYPES, LAYOUTS)
}
CASES |= {
    f"whole_{kind}_{dtype}": (of_a_kind[-1], dtype, {})
    for (kind, of_a_kind), dtype in product(FULL.items(), DTYPES)
}
#: What looks for elements that are not finite, and reads the factor of the norm on the device.
GUARDED = {"mode": "skip", "on_device": ("gradient_scale",)}
COUNTING = GUARDED | {"mode": "count"}
CASES |= {f"guarded_{dtype}": (FULL["rmsprop"][-1], dtype, GUARDED) for dtype in DTYPES}
CASES |= {f"counting_{dtype}": (FULL["rmsprop"][-1], dtype, COUNTING) for dtype in DTYPES}
#: Complex numbers that are not contiguous: pairs of reals, both in one thread.
COMPLEX = ("complex64", "complex128")
CASES |= {f"{dtype}_strided": (RMSProp().rule, dtype, LAYOUTS["strided"]) for dtype in COMPLEX}
CASES |= {
    f"guarded_{dtype}_strided": (FULL["rmsprop"][-1], dtype, GUARDED | LAYOUTS["strided"])
    for dtype in COMPLEX
}
#: Complex numbers whose parts go together, beside real arrays; rows; and what is only written.
ALL = rules.around(
    rules.rmsprop(True, True, True, "outside"),
    rules.Around(("weight_decay",), True, modulus_bounds=True, parameter_average=True),
)
TOGETHER = {
    "modulus": RMSProp(second_moment="modulus").rule,
    "modulus_adam": Adam(second_moment="modulus").rule,
    "modulus_all": ALL,
    "modulus_direction": direction_of(RMSProp(second_moment="modulus", momentum=0.5).rule),
}
CASES |= {
    f"{name}_{dtype}_{layout}": (rule, dtype, LAYOUTS[layout])
    for (name, rule), dtype, layout in product(TOGETHER.items(), COMPLEX, ("contiguous", "strided"))
}
CASES |= {f"modulus_guarded_{dtype}": (ALL, dtype, GUARDED) for dtype in COMPLEX}
CASES |= {f"real_{name}": (rule, "float32", {}) for name, rule in TOGETHER.items()}
ROWS = {"gathers": True}
CASES |= {f"rows_{dtype}": (RMSProp().rule, dtype, ROWS) for dtype in ("float16", "float32", "float64")}
CASES |= {f"rows_modulus_{dtype}": (TOGETHER["modulus"], dtype, ROWS) for dtype in COMPLEX}
#: Steps of a graph, which count themselves and know when to stop.
COUNTED = {"counting": "counts"}
STOPPED = {"counting": "is stopped", "on_device": ("step_size", "correction")}
ADAM = Adam().rule
CASES |= {f"counted_{dtype}": (RMSProp().rule, dtype, COUNTED) for dtype in DTYPES}
CASES |= {f"stopped_{dtype}": (ADAM, dtype, STOPPED) for dtype in DTYPES}
CASES |= {f"stopped_guarded_{dtype}": (ADAM, dtype, STOPPED | {"mode": "skip"}) for dtype in DTYPES}
CASES |= {f"stopped_{dtype}": (TOGETHER["modulus_adam"], dtype, STOPPED) for dtype in COMPLEX}
CASES |= {"stopped_rows": (ADAM, "float32", STOPPED | ROWS)}
#: Fewer arrays among the bounds, no velocity; and the whole language of rules.
MORE = {
    f"{kind}_{k}": (rule, "float32", {})
    for kind, of_a_kind in FULL.items()
    for k, rule in enumerate(of_a_kind[:-1])
}
MORE |= {
    f"{rule.name}_{dtype}": (rule, dtype, {})
    for rule, dtype in product((CLIPPED, EVERYTHING), ("float32", "float64"))
}
MORE |= {f"guarded_{kind}": (of_a_kind[0], "float32", GUARDED) for kind, of_a_kind in FULL.items()}


#: Kernels of contiguous arrays: those of the package with every option, and the whole language of rules.
WIDE = {
    f"wide_{name}": case
    for name, case in (CASES | MORE).items()
    if name.startswith(("whole", "guarded_float", "guarded_bfloat", "counting", "clipped", "everything"))
    or (name.startswith(("counted", "stopped")) and name != "stopped_rows")
    or (name.startswith(("real_", "modulus")) and not name.endswith("strided"))
}


def numbers_in(rule, dtype):
    """Real numbers that an element has in each array, and whether the rule sees its parts apart."""
    parts = 2 if dtype in COMPLEX else 1
    each = {name: 1 if name in rule.reals else parts for name in rule.arrays}
    return each, 1 if rule.couples else parts


def accesses(rule, dtype, options, bits):
    """Each array loaded once and stored once, by as many bits for each real number."""
    each, _ = numbers_in(rule, dtype)
    moved = Counter({("ld", bits): sum(each[n] for n in rule.arrays if n not in rule.fresh)})
    if options.get("mode") != "count":
        moved["st", bits] += sum(each[name] for name in rule.writes)
    return moved
