# The parts of stomp.py 9.0 that a client needs; the package itself carries no types.
from . import connect as connect
from . import exception as exception
from . import listener as listener
from . import transport as transport
from . import utils as utils
from .connect import StompConnection11 as StompConnection11
from .connect import StompConnection12 as StompConnection12
from .listener import ConnectionListener as ConnectionListener

__version__: str
Connection = StompConnection11
Connection11 = StompConnection11
Connection12 = StompConnection12
