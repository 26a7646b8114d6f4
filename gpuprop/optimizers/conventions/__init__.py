"""What "RMSProp" means elsewhere: constructors with the arguments of other libraries, a file for each."""

from __future__ import annotations

from gpuprop.optimizers.conventions.chainer import Chainer
from gpuprop.optimizers.conventions.convention import _Schedule  # noqa: F401 - in pickles of 0.1.0
from gpuprop.optimizers.conventions.keras import Keras
from gpuprop.optimizers.conventions.optax import Optax
from gpuprop.optimizers.conventions.pytorch import PyTorch
from gpuprop.optimizers.conventions.tensorflow import TensorFlow
from gpuprop.optimizers.conventions.timm import Timm


class Conventions(PyTorch, Keras, TensorFlow, Optax, Chainer, Timm):
    r"""RMSProp as other libraries define it, from their own arguments and defaults.

    The formulas stand beside each constructor: :math:`g` is the gradient, :math:`x` the parameters,
    and :math:`s`, :math:`a` and :math:`v` the ``square_average``, ``gradient_average`` and
    ``velocity`` of the state. Without `centered`, :math:`a = 0` throughout; without `momentum`,
    :math:`\mu = 0`.

    Arguments that only choose an implementation are taken and change nothing; one that asks for
    what a step here does not do is refused. What only gpuprop has is added afterwards, as in
    ``dataclasses.replace(RMSProp.pytorch(lr=0.001), bounds=(0, 1))``.

    Examples
    --------
    >>> from gpuprop import RMSProp
    >>> RMSProp.pytorch(lr=0.001) == RMSProp(0.001, rho=0.99, epsilon=1e-8)
    True
    >>> RMSProp.tensorflow(0.001).initial_square_average
    1.0
    """
