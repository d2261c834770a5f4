from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import pytest

from negguide.deprecation import MOVED_MODULES, new_module_name


@pytest.mark.parametrize("old, new", MOVED_MODULES.items())
def test_an_old_module_name_gives_the_new_module_and_warns(old, new):
    sys.modules.pop(old, None)
    with pytest.warns(DeprecationWarning, match=f"{old} is now {new}"):
        module = import_module(old)
    assert module is import_module(new)
    assert module.__spec__.name == new


def test_what_lies_inside_a_moved_package_moved_with_it():
    assert new_module_name("negguide.vlm.chat") == "negguide.watchers.chat"
    assert new_module_name("negguide.watchers.chat") is None
    assert new_module_name("negguide.vlmx") is None


def test_an_old_module_is_found_through_its_old_package():
    from negguide import engine
    from negguide.pipeline import intercept

    vars(engine).pop("swap", None)
    for name in ("negguide.integration", "negguide.integration.swap", "negguide.engine.swap"):
        sys.modules.pop(name, None)
    with pytest.warns(DeprecationWarning, match="negguide.pipeline.intercept"):
        from negguide.integration import swap
    assert swap is intercept


def test_the_warning_points_at_the_line_that_uses_the_old_name(tmp_path):
    script = tmp_path / "old.py"
    script.write_text("import negguide\nimport negguide.vlm.questions\n")
    answer = subprocess.run(
        [sys.executable, "-W", "always::DeprecationWarning", str(script)], capture_output=True, text=True
    )
    assert answer.returncode == 0, answer.stderr
    assert f"{script}:2: DeprecationWarning: negguide.vlm is now negguide.watchers" in answer.stderr
