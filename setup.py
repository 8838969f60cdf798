"""Copies configs/ into the wheel as razorlite/configs; everything else is in pyproject.toml."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithConfigs(build_py):
    """The usual build, and the shipped configurations."""

    def run(self):
        super().run()
        if not self.editable_mode:
            target = Path(self.build_lib) / "razorlite" / "configs"
            shutil.copytree("configs", target, dirs_exist_ok=True)


setup(cmdclass={"build_py": BuildWithConfigs})
