from pathlib import Path

import pytest

from prometheus_nt.domain.errors import ConfigError
from prometheus_nt.settings import Settings


def test_settings_show_no_address_and_no_password():
    settings = Settings.from_environment(
        {
            "PROMETHEUS_HOME": "/data/prometheus",
            "PROMETHEUS_HISTORICAL_URL": "postgresql://user:s3cret@db.internal/historical",
            "PROMETHEUS_RUNTIME_URL": "postgresql://user:hunter2@db.internal/runtime",
        }
    )

    for shown in (repr(settings), str(settings), f"{settings}"):
        assert "/data/prometheus" in shown
        assert not {"s3cret", "hunter2", "db.internal", "user"} & set(
            shown.replace("@", " ").replace(":", " ").replace("/", " ").split()
        )
        assert "url" not in shown
    assert "s3cret" in settings.historical_url
    assert "hunter2" in settings.runtime_url


def test_without_an_environment_everything_is_kept_in_one_folder():
    settings = Settings.from_environment({})

    assert settings.historical_url == "sqlite:///var/historical.db"
    assert settings.runtime_url == "sqlite:///var/runtime.db"
    assert (settings.runs_dir, settings.cache_dir) == (Path("var/runs"), Path("var/cache"))


def test_the_databases_move_with_their_home():
    settings = Settings.from_environment({"PROMETHEUS_HOME": "/data"})

    assert settings.historical_url == "sqlite:////data/historical.db"


def test_a_vendor_key_is_read_and_never_shown():
    settings = Settings.from_environment(
        {
            "EODHD_API_KEY": "s3cr3t",
            "PROMETHEUS_EODHD_URL": "https://user:hunter2@mirror.internal",
            "PROMETHEUS_EODHD_PER_MINUTE": "30",
        }
    )

    assert (settings.eodhd_key, settings.eodhd_per_minute) == ("s3cr3t", 30)
    assert settings.eodhd_url == "https://user:hunter2@mirror.internal"
    assert "s3cr3t" not in f"{settings!r}{settings}"
    assert "hunter2" not in f"{settings!r}{settings}"


@pytest.mark.parametrize("text", ["0", "-5", "many", "1.5", ""])
def test_a_pace_that_is_no_number_names_its_variable(text):
    with pytest.raises(ConfigError, match="PROMETHEUS_EODHD_PER_MINUTE: expected a whole number"):
        Settings.from_environment({"PROMETHEUS_EODHD_PER_MINUTE": text})
