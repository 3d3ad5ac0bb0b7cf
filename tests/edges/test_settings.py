"""The settings: every key, every mistake at once, and no secret shown."""

from pathlib import Path

import pytest

from outlast.core.errors import SettingsError
from outlast.core.policy import Clocks, Defaults, Limits, Price, Provider, Route, Target
from outlast.edges.settings import Kafka, api_key, load

EVERY_KEY = """
[kafka]
bootstrap_servers = "one:9092, two:9093"
max_body_bytes = 2_000_000
prefix = "team-a"
partitions = 6
topic_partitions = { jobs = 24, "work.local" = 3, "retry.5s" = 2, "results.team" = 1 }

[defaults]
drain_seconds = 30
route = "chat"
ttl_seconds = 3_600

[providers.local]
family = "compatible"
base_url = "http://127.0.0.1:8000/v1/"
jurisdiction = "eu"
api_key_file = "/run/secrets/local"
limits = { concurrency = 16, requests_per_minute = 5_000, tokens_per_minute = 2_000_000 }
clocks = { connect_seconds = 1, first_token_seconds = 2, idle_seconds = 3, total_seconds = 4 }
prices = { "some/model" = { input = 0.27, output = 1.10 } }

[providers.openai]
family = "openai"
api_key_env = "OPENAI_API_KEY"

[routes.chat]
targets = ["local/some/model", "openai/gpt"]
max_attempts = 3
max_calls = 9
throttle_wait_seconds = 5
on_ambiguous = "hold"
on_content_policy = "alternate"
results = "team"
ttl_seconds = 60
scope = ["jurisdiction:eu", "openai"]
"""

FULL_ENVIRONMENT = {
    "OUTLAST_KAFKA__BOOTSTRAP_SERVERS": "env:1",
    "OUTLAST_KAFKA__TOPIC_PARTITIONS": '{"jobs": 2}',
    "OUTLAST_PROVIDERS__LOCAL__LIMITS__CONCURRENCY": "7",
    "OUTLAST_ROUTES__CHAT__TARGETS": '["openai/other"]',
    "OUTLAST_DEFAULTS__TTL_SECONDS": "",
}


def written(tmp_path: Path, text: str) -> str:
    path = tmp_path / "outlast.toml"
    path.write_text(text)
    return str(path)


def mistakes(tmp_path: Path, text: str, environ: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load(environ or {}, written(tmp_path, text))
    assert caught.value.exit_code == 2
    assert str(caught.value) == "\n".join(caught.value.mistakes)
    return caught.value.mistakes


def test_every_key_is_read(tmp_path: Path) -> None:
    path = written(tmp_path, EVERY_KEY)

    settings = load({}, path)

    assert settings.path == path
    assert settings.kafka == Kafka(
        bootstrap_servers="one:9092,two:9093",
        max_body_bytes=2_000_000,
        prefix="team-a",
        partitions=6,
        topic_partitions={"jobs": 24, "work.local": 3, "retry.5s": 2, "results.team": 1},
    )
    assert settings.catalogue.max_body_bytes == 2_000_000
    assert settings.catalogue.defaults == Defaults(
        drain_seconds=30, route="chat", ttl_seconds=3_600
    )
    assert settings.catalogue.providers["local"] == Provider(
        name="local",
        family="compatible",
        base_url="http://127.0.0.1:8000/v1",
        jurisdiction="eu",
        limits=Limits(concurrency=16, requests_per_minute=5_000, tokens_per_minute=2_000_000),
        clocks=Clocks(connect_seconds=1, first_token_seconds=2, idle_seconds=3, total_seconds=4),
        api_key_file="/run/secrets/local",
        prices={"some/model": Price(input=0.27, output=1.10)},
    )
    assert settings.catalogue.routes["chat"] == Route(
        name="chat",
        targets=(Target("local", "some/model"), Target("openai", "gpt")),
        max_attempts=3,
        max_calls=9,
        throttle_wait_seconds=5,
        on_ambiguous="hold",
        on_content_policy="alternate",
        results="team",
        ttl_seconds=60,
        scope=("jurisdiction:eu", "openai"),
    )


def test_without_a_file_kafka_alone_is_configured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    settings = load({})

    assert settings.path is None
    assert settings.kafka == Kafka()
    assert not settings.catalogue.providers
    assert not settings.catalogue.routes


def test_the_file_is_found_where_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path, EVERY_KEY)
    monkeypatch.chdir(tmp_path)

    assert load({}).path == "outlast.toml"
    assert load({"OUTLAST_CONFIG": path}).path == path
    with pytest.raises(SettingsError, match=r"OUTLAST_CONFIG names nowhere\.toml"):
        load({"OUTLAST_CONFIG": "nowhere.toml"})


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    settings = load(FULL_ENVIRONMENT, written(tmp_path, EVERY_KEY))

    assert settings.kafka.bootstrap_servers == "env:1"
    assert settings.kafka.topic_partitions["jobs"] == 2
    assert settings.kafka.prefix == "team-a"
    assert settings.catalogue.providers["local"].limits.concurrency == 7
    assert settings.catalogue.providers["local"].limits.requests_per_minute == 5_000
    assert settings.catalogue.routes["chat"].targets == (Target("openai", "other"),)
    assert settings.catalogue.defaults.ttl_seconds == 3_600  # an empty variable counts as unset


def test_the_family_knows_where_it_lives(tmp_path: Path) -> None:
    families = "".join(
        f'[providers.{name}]\nfamily = "{name}"\n' for name in ("deepseek", "openai", "anthropic")
    )

    providers = load({}, written(tmp_path, families)).catalogue.providers

    assert {name: each.base_url for name, each in providers.items()} == {
        "deepseek": "https://api.deepseek.com",
        "openai": "https://api.openai.com/v1",
        "anthropic": "https://api.anthropic.com",
    }


def test_all_mistakes_are_named_in_one_message(tmp_path: Path) -> None:
    found = mistakes(
        tmp_path,
        '[kafka]\nbootstrap_server = "x:1"\n'
        '[providers.local]\nfamily = "compatible"\nlimits = { concurrency = 0 }\n'
        '[routes.chat]\ntargets = ["locl/model"]\n',
    )

    assert sorted(found) == [
        "kafka.bootstrap_server is an unknown key; did you mean bootstrap_servers?",
        "providers.local.base_url is required for the family compatible",
        "providers.local.limits.concurrency must be greater than or equal to 1, not 0",
        "routes.chat.targets[0] names the unknown provider 'locl'; did you mean local?",
    ]


LOCAL = '[providers.local]\nfamily = "compatible"\nbase_url = "http://h/v1"\n'
ROUTE = '[routes.chat]\ntargets = ["local/m"]\n'


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[kafak]\n", "kafak is an unknown key; did you mean kafka?"),
        ("[defaults]\nroutes = 1\n", "defaults.routes is an unknown key; did you mean route?"),
        (LOCAL + "limits = { concurency = 1 }\n", "did you mean concurrency?"),
        (LOCAL + "clocks = { conect_seconds = 1 }\n", "did you mean connect_seconds?"),
        (LOCAL + ROUTE + "retries = 1\n", "routes.chat.retries is an unknown key"),
        ('[kafka]\nsecurity_protocl = "SSL"\n', "did you mean security_protocol?"),
        ('[kafka]\nbootstrap_servers = "host"\n', "kafka.bootstrap_servers must be host:port"),
        ("[kafka]\nmax_body_bytes = 17_000_000\n", "kafka.max_body_bytes must be less than"),
        ('[kafka]\nprefix = "A_b"\n', "kafka.prefix may hold"),
        ("[kafka]\ntopic_partitions = { job = 1 }\n", "unknown topic; did you mean jobs?"),
        ('[defaults]\nroute = "cat"\n' + LOCAL + ROUTE, "unknown route 'cat'; did you mean chat?"),
        ("[defaults]\nttl_seconds = 700_000\n", "defaults.ttl_seconds must be less than"),
        ('[providers.a_b]\nfamily = "openai"\n', "providers.a_b may hold a-z, 0-9 and -"),
        ("[providers.x]\n", "providers.x.family is required"),
        ('[providers.x]\nfamily = "deepsek"\n', "must be 'compatible', 'openai', 'deepseek' or"),
        ('[providers.x]\nfamily = "compatible"\nbase_url = "ftp://h"\n', "http:// or https://"),
        ('[providers.x]\nfamily = "openai"\nbase_url = "http://u:p@h"\n', "hold credentials"),
        (LOCAL + 'api_key_env = "A"\napi_key_file = "b"\n', "keep one"),
        (LOCAL + "prices = { m = { input = 1 } }\n", "prices.m.output is required"),
        (LOCAL + "prices = { m = { input = -1, output = 1 } }\n", "prices.m.input must be"),
        (LOCAL + "prices = { m = { input = 1e308, output = 1 } }\n", "prices.m.input must be"),
        (LOCAL + "prices = { m = { inputs = 1, input = 1, output = 1 } }\n", "mean input?"),
        (LOCAL + 'jurisdiction = "EU"\n', "providers.local.jurisdiction may hold"),
        ("[routes.chat]\ntargets = []\n", "routes.chat.targets must not be empty"),
        ('[routes.chat]\ntargets = ["local"]\n', "routes.chat.targets[0] must be provider/model"),
        (LOCAL + ROUTE + 'results = "A"\n', "routes.chat.results may hold"),
        (LOCAL + ROUTE + 'results = ["a"]\n', "routes.chat.results must be a valid string"),
        (LOCAL + ROUTE + 'scope = ["jurisdiction:eu"]\n', "no provider and nobody's jurisdiction"),
        (LOCAL + ROUTE + "scope = []\n", "routes.chat.scope must not be empty"),
        (LOCAL + ROUTE + 'on_ambiguous = "maybe"\n', "'alternate', 'retry' or 'hold'"),
        ("[kafka\n", "is not valid TOML"),
        (f"a = {'[' * 5_000}", "is not valid TOML"),
        ("kafka = 3\n", "kafka must be a table"),
    ],
)
def test_a_mistake_says_where_and_what(tmp_path: Path, text: str, says: str) -> None:
    found = mistakes(tmp_path, text)

    assert len(found) == 1
    assert says in found[0]


@pytest.mark.parametrize(
    "address",
    [
        "http://h/v1 ",
        "http://h /v1",
        "http://h\\t/v1",
        "http://h:99999",
        "http://h:0",
        "http://h:port",
        "http://@h",
        "http://user@h",
        "http://",
        "http://h_!/v1",
        "http://h/v1?",
        "http://h/v1#",
        "http://h\\\\x",
        "http://höst/v1",
        "h/v1",
        "ftp://h",
    ],
)
def test_an_address_that_clients_would_read_in_different_ways_is_refused(
    tmp_path: Path, address: str
) -> None:
    text = f'[providers.x]\nfamily = "openai"\nbase_url = "{address}"\n'

    [found] = mistakes(tmp_path, text)

    assert found.startswith("providers.x.base_url must")


@pytest.mark.parametrize(
    "servers", ["h", "h:0", "h:99999", "http://h:1", "a:1,,b:2", "u@h:1", "h h:1"]
)
def test_servers_that_are_not_host_and_port_are_refused(tmp_path: Path, servers: str) -> None:
    [found] = mistakes(tmp_path, f'[kafka]\nbootstrap_servers = "{servers}"\n')

    assert found.startswith("kafka.bootstrap_servers must be host:port")


def test_a_file_with_a_byte_order_mark_is_read_as_one_without(tmp_path: Path) -> None:
    path = tmp_path / "outlast.toml"
    path.write_bytes(b'\xef\xbb\xbf[kafka]\r\nprefix = "team-a"\r\n')

    assert load({}, str(path)).kafka.prefix == "team-a"


def test_a_path_that_cannot_be_looked_at_is_a_mistake() -> None:
    with pytest.raises(SettingsError) as caught:
        load({"OUTLAST_CONFIG": "x" * 300})

    [found] = caught.value.mistakes
    assert found.startswith("OUTLAST_CONFIG names xxx")
    assert found.endswith(", which cannot be read: File name too long")


def test_servers_may_have_names_and_addresses_of_both_kinds(tmp_path: Path) -> None:
    text = '[kafka]\nbootstrap_servers = "kafka_1.example.com:9092, 10.0.0.1:9092,[::1]:9092"\n'

    found = load({}, written(tmp_path, text)).kafka.bootstrap_servers

    assert found == "kafka_1.example.com:9092,10.0.0.1:9092,[::1]:9092"


def test_a_price_is_for_a_million_tokens() -> None:
    assert Price(input=0.5, output=2.0).cost(1_000_000, 500_000) == 1.5
    assert Price(input=0.5, output=2.0).cost(0, 0) == 0.0


def test_a_scope_that_leaves_no_target_is_a_mistake(tmp_path: Path) -> None:
    other = '[providers.eu]\nfamily = "openai"\njurisdiction = "eu"\n'

    found = mistakes(tmp_path, LOCAL + other + ROUTE + 'scope = ["jurisdiction:eu"]\n')

    assert found == ["routes.chat.scope leaves none of its targets"]


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("OUTLAST_KAFKA__PARTITIONS", "many", "(from OUTLAST_KAFKA__PARTITIONS) must be"),
        ("OUTLAST_KAKFA__PREFIX", "x", "OUTLAST_KAKFA__PREFIX names an unknown table"),
        ("OUTLAST_KAFKA_PREFIX", "x", "did you mean OUTLAST_KAFKA__PREFIX?"),
        ("OUTLAST_KAFKA__PREFX", "x", "kafka.prefx (from OUTLAST_KAFKA__PREFX) is an unknown key"),
    ],
)
def test_a_wrong_variable_is_named(tmp_path: Path, variable: str, value: str, says: str) -> None:
    [found] = mistakes(tmp_path, "", {variable: value})

    assert says in found


def test_variables_of_others_are_let_be(tmp_path: Path) -> None:
    environ = {"OUTLAST_SERVICE_HOST": "10.0.0.1", "OUTLAST_LOG": "json", "HOME": "x"}

    assert load(environ, written(tmp_path, "")).kafka == Kafka()


@pytest.mark.parametrize("key", ["api_key", "token", "password"])
def test_a_key_in_the_file_is_refused_and_not_repeated(tmp_path: Path, key: str) -> None:
    [found] = mistakes(tmp_path, LOCAL + f'{key} = "sk-very-secret"\n')

    assert "a key never stands in the file" in found
    assert "sk-very" not in found


def test_a_key_in_the_place_of_its_variable_is_not_repeated(tmp_path: Path) -> None:
    [found] = mistakes(tmp_path, LOCAL + 'api_key_env = "sk-very-secret"\n')

    assert "never the key itself" in found
    assert "sk-very" not in found


def provider(**fields: str) -> Provider:
    return Provider(name="p", family="openai", base_url="https://h", **fields)  # type: ignore[arg-type]


def test_a_key_comes_from_its_variable_or_file(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("sk-2\n")

    assert api_key(provider(), {}) is None
    assert api_key(provider(api_key_env="KEY"), {"KEY": " sk-1 "}) == "sk-1"
    assert api_key(provider(api_key_file=str(path)), {}) == "sk-2"


@pytest.mark.parametrize(
    ("environ", "says"),
    [
        ({}, "providers.p.api_key_env: the environment variable KEY is not set"),
        ({"KEY": "  "}, "KEY is empty"),
        ({"KEY": "sk-secret\nsk-other"}, "KEY holds more than a key"),
    ],
)
def test_a_missing_key_names_provider_and_variable(environ: dict[str, str], says: str) -> None:
    with pytest.raises(SettingsError) as caught:
        api_key(provider(api_key_env="KEY"), environ)

    assert says in str(caught.value)
    assert "sk-secret" not in str(caught.value)


def test_an_unreadable_key_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        SettingsError, match=r"providers\.p\.api_key_file: .*missing cannot be read"
    ):
        api_key(provider(api_key_file=str(tmp_path / "missing")), {})


def test_settings_hold_no_secret(tmp_path: Path) -> None:
    settings = load({"OPENAI_API_KEY": "sk-very-secret"}, written(tmp_path, EVERY_KEY))

    assert "sk-very" not in repr(settings)
