"""The notebook of Colab and Kaggle where something is wrong. (tests/hub/test_round_trip.py executes it to its end.)"""

import pytest
from nbclient.exceptions import CellExecutionError

from tests.hub import notebook


def test_a_command_that_fails_ends_it(tmp_path_factory):
    code, folder = (tmp_path_factory.mktemp(name) for name in ("code", "here"))
    with pytest.raises(CellExecutionError, match="There is no recipe"):
        notebook.execute(folder, "http://127.0.0.1:9", CODE=notebook.repository(code), RECIPE="none", REPO="owner/none")
