import pytest

from prec_backdoor.audit import tiles


@pytest.fixture(autouse=True, scope="package")
def small_blocks():
    """The catalogues of these tests fill several blocks of items."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiles, "ITEMS", 32)
        yield
