"""What schemathesis does differently for test_fuzz_admin.py, which has it load this."""

import itertools
import os

import schemathesis
from requests.adapters import HTTPAdapter

ADDRESSES = itertools.count(256)
BACKUPS = itertools.count()
make_pool = HTTPAdapter.init_poolmanager


@schemathesis.hook
def before_call(context, case, kwargs):
    """A backup goes below a directory of ours: the server would write wherever its user may."""
    if isinstance(case.body, dict) and str(case.body.get("to")).startswith("/"):
        case.body = case.body | {"to": f"{os.environ['FUZZ_BACKUPS']}/{next(BACKUPS) % 3}"}


def from_an_address_of_its_own(adapter: HTTPAdapter, *arguments, **options) -> None:
    """Each probe without the right token is made by a session of its own. Wrong tries from one address are answered with 429
    after a while, where schemathesis wants to see 401."""
    high, low = divmod(next(ADDRESSES), 256)
    make_pool(adapter, *arguments, source_address=(f"127.0.{high}.{low}", 0), **options)


HTTPAdapter.init_poolmanager = from_an_address_of_its_own
