"""Learned negatives of tiny pipelines, for tests."""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from pathlib import Path

import families

from negguide.engine import attach
from negguide.learn import Recorder, fitted
from negguide.methods.learned import Learned


@functools.cache
def _folder() -> Path:
    folder = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


@functools.cache
def learned_file(family: str) -> str:
    """The file of "a cat" against "a dog", learnt from one picture each on the tiny pipeline of a family."""
    recorders = Recorder(), Recorder()
    for recorder, prompt in zip(recorders, ("a cat on grass", "a dog on grass"), strict=True):
        with attach(families.build(family), recorder):
            families.run(family, prompt=prompt)
    file = _folder() / f"{family}.safetensors"
    Learned("cat", ("dog",), recorders[0].family, dict(fitted(*recorders, shrinkage=0.1))).save(file)
    return str(file)
