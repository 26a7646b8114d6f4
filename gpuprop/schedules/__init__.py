from gpuprop.schedules.curves import *  # noqa: F403
from gpuprop.schedules.curves import __all__  # noqa: F401
