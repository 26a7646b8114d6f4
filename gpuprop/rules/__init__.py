"""What an update is: a `Rule`, its language, and the rules of the package.

Start with ``family.py``, where the mathematics of every optimizer is on one page; ``arithmetic.py`` is the
language in which a rule is written, and ``folding.py`` takes neutral options out of it. May import
``arguments`` and ``reference``, and nothing else of the package.
"""

from gpuprop.rules.family import NEUTRAL, Rule, _unpickled, adagrad, adam, rmsprop, sgd

__all__ = ["NEUTRAL", "Rule", "_unpickled", "adagrad", "adam", "rmsprop", "sgd"]
