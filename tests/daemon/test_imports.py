"""Libraries are imported without what they do not need, and nothing stays hidden."""

import subprocess
import sys
from typing import Final

LOAD: Final = (
    "import sys\nfrom sentryfw.daemon import imports\nimports.import_libraries()\n"
    "import sentryfw.daemon.serve\n"
)


def _words(code: str, **environment: str) -> list[str]:
    """Run code in a new interpreter; return the words that it printed."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=False,
        env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_the_daemon_runs_without_openssl_and_modules_can_import_it_later() -> None:
    code = LOAD + (
        "print('ssl' in sys.modules, '_hashlib' in sys.modules)\n"
        "import asyncio, hashlib, ssl, _hashlib\n"
        "print(asyncio.base_events.ssl, ssl.OPENSSL_VERSION.split()[0])\n"
        "print(hashlib.sha256(b'').hexdigest()[:8])\n"
    )
    assert _words(code) == ["False", "False", "None", "OpenSSL", "e3b0c442"]


def test_a_python_without_hashes_of_its_own_keeps_openssl() -> None:
    """RHEL builds Python with --with-builtin-hashlib-hashes=blake2."""
    removed = "import sys\nfor name in ('_md5', '_sha1', '_sha256', '_sha512', '_sha2', '_sha3'):\n"
    code = f"{removed}    sys.modules[name] = None\n{LOAD}"
    code += (
        "import hashlib\nprint('_hashlib' in sys.modules, hashlib.sha512(b'').hexdigest()[:8])\n"
    )
    assert _words(code) == ["True", "cf83e135"]


def test_a_module_that_is_loaded_already_stays() -> None:
    code = "import sys, ssl\n" + LOAD + "print(sys.modules['ssl'] is ssl)\n"
    assert _words(code) == ["True"]


def test_the_daemon_holds_a_configuration_without_pydantic() -> None:
    code = LOAD + (
        "from sentryfw import config\n"
        "print(config.parse(b'[detect]\\ntrigger = 5', 'nowhere').detect.trigger)\n"
        "print([name for name in sys.modules if name.startswith('pydantic')])\n"
    )
    assert _words(code) == ["5", "[]"]


METADATA: Final = (
    "import sys\n"
    "from sentryfw import config\n"
    "from sentryfw.daemon import imports\n"
    "with imports.plugin_search_without_metadata():\n"
    "    config.parse(b'', 'nowhere')\n"
    "print('importlib.metadata' in sys.modules)\n"
    "from importlib.metadata import distributions\n"
    "print(callable(distributions))\n"
)


def test_the_first_model_loads_no_metadata_and_the_module_is_whole_afterwards() -> None:
    assert _words(METADATA, PYDANTIC_DISABLE_PLUGINS="__all__") == ["False", "True"]


def test_where_the_operator_wants_plugins_nothing_is_hidden() -> None:
    assert _words(METADATA) == ["True", "True"]
