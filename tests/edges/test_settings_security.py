"""The security settings of Kafka: what goes together, where secrets come from, what is shown."""

from pathlib import Path
from typing import Any

import pytest

from outlast.core.errors import SettingsError
from outlast.edges.settings import Kafka, load

SECRET = "canary-7741"
SASL = 'security_protocol = "SASL_SSL"\nsasl_mechanism = "SCRAM-SHA-512"\n'
USER = 'sasl_username = "u"\nsasl_password_env = "PASSWORD"\n'
OAUTH = 'security_protocol = "SASL_SSL"\nsasl_mechanism = "OAUTHBEARER"\n'
CLIENT = 'sasl_oauth_client_id = "c"\nsasl_oauth_client_secret_env = "PASSWORD"\n'
ENVIRON = {"PASSWORD": SECRET}
LONG = "x" * 300
"""Too long a name for a file."""


def written(tmp_path: Path, text: str) -> str:
    path = tmp_path / "outlast.toml"
    path.write_text(f"[kafka]\n{text}")
    return str(path)


def mistakes(tmp_path: Path, text: str, environ: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load(ENVIRON if environ is None else environ, written(tmp_path, text))
    assert SECRET not in str(caught.value)
    return caught.value.mistakes


@pytest.fixture
def pem(tmp_path: Path) -> Path:
    """A file that is there; nobody reads it before a connection is made."""
    path = tmp_path / "a.pem"
    path.write_text("")
    return path


def test_every_key_of_a_password_over_tls_is_read(tmp_path: Path, pem: Path) -> None:
    tls = f'ssl_cafile = "{pem}"\nssl_certfile = "{pem}"\nssl_keyfile = "{pem}"\n'
    more = 'ssl_key_password_env = "KEY"\nssl_check_hostname = false\n'

    kafka = load({**ENVIRON, "KEY": "k"}, written(tmp_path, SASL + USER + tls + more)).kafka

    assert kafka == Kafka(
        security_protocol="SASL_SSL",
        sasl_mechanism="SCRAM-SHA-512",
        sasl_username="u",
        sasl_password=SECRET,
        ssl_cafile=str(pem),
        ssl_certfile=str(pem),
        ssl_keyfile=str(pem),
        ssl_key_password="k",
        ssl_check_hostname=False,
    )


def test_every_key_of_a_token_is_read(tmp_path: Path, pem: Path) -> None:
    url = 'sasl_oauth_token_url = "https://login.example.com/token?a=b"\nsasl_oauth_scope = "s"\n'

    by_url = load(ENVIRON, written(tmp_path, OAUTH + CLIENT + url)).kafka
    by_file = load({}, written(tmp_path, OAUTH + f'sasl_oauth_token_file = "{pem}"\n')).kafka

    assert by_url == Kafka(
        security_protocol="SASL_SSL",
        sasl_mechanism="OAUTHBEARER",
        sasl_oauth_token_url="https://login.example.com/token?a=b",
        sasl_oauth_client_id="c",
        sasl_oauth_client_secret=SECRET,
        sasl_oauth_scope="s",
    )
    assert by_file.sasl_oauth_token_file == str(pem)


def test_a_secret_may_lie_in_a_file_and_loses_its_last_newline_alone(tmp_path: Path) -> None:
    place = tmp_path / "password"
    place.write_text(" two words \n")
    text = SASL + f'sasl_username = "u"\nsasl_password_file = "{place}"\n'

    assert load({}, written(tmp_path, text)).kafka.sasl_password == " two words "


def test_the_environment_names_the_place_of_a_secret(tmp_path: Path) -> None:
    environ = {"OUTLAST_KAFKA__SASL_PASSWORD_ENV": "PASSWORD", **ENVIRON}

    assert load(environ, written(tmp_path, SASL + 'sasl_username = "u"\n')).kafka == Kafka(
        security_protocol="SASL_SSL",
        sasl_mechanism="SCRAM-SHA-512",
        sasl_username="u",
        sasl_password=SECRET,
    )


TOKEN_URL = 'sasl_oauth_token_url = "https://h/t"\n'


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            'security_protocol = "TLS"\n',
            "kafka.security_protocol must be 'PLAINTEXT', 'SSL', 'SASL_PLAINTEXT' or 'SASL_SSL', "
            "not 'TLS'",
        ),
        (
            SASL.replace("SCRAM-SHA-512", "SCRAM") + USER,
            "kafka.sasl_mechanism must be 'PLAIN', 'SCRAM-SHA-256', 'SCRAM-SHA-512' or "
            "'OAUTHBEARER', not 'SCRAM'",
        ),
        (
            'security_protocol = "SASL_SSL"\n',
            "kafka.sasl_mechanism is required with SASL_SSL: PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 "
            "or OAUTHBEARER",
        ),
        (
            'sasl_mechanism = "PLAIN"\n' + USER,
            "kafka.sasl_mechanism, sasl_username, sasl_password_env say nothing with "
            "security_protocol PLAINTEXT; did you mean SASL_SSL?",
        ),
        (
            'security_protocol = "SSL"\nsasl_username = "u"\n',
            "kafka.sasl_username says nothing with security_protocol SSL; did you mean SASL_SSL?",
        ),
        (
            "ssl_check_hostname = false\n",
            "kafka.ssl_check_hostname says nothing with security_protocol PLAINTEXT; "
            "did you mean SSL?",
        ),
        (
            SASL.replace("SASL_SSL", "SASL_PLAINTEXT") + USER + "ssl_check_hostname = false\n",
            "kafka.ssl_check_hostname says nothing with security_protocol SASL_PLAINTEXT; "
            "did you mean SASL_SSL?",
        ),
        (
            SASL + 'sasl_password_env = "PASSWORD"\n',
            "kafka.sasl_username is required with SCRAM-SHA-512",
        ),
        (
            SASL + 'sasl_username = "u"\n',
            "kafka.sasl_password_env (or sasl_password_file) is required with SCRAM-SHA-512",
        ),
        (
            SASL + USER + TOKEN_URL,
            "kafka.sasl_oauth_token_url says nothing with sasl_mechanism SCRAM-SHA-512",
        ),
        (
            OAUTH + CLIENT + TOKEN_URL + USER,
            "kafka.sasl_username, sasl_password_env say nothing with sasl_mechanism OAUTHBEARER",
        ),
        (
            OAUTH,
            "kafka.sasl_oauth_token_file or sasl_oauth_token_url is required with OAUTHBEARER",
        ),
        (
            OAUTH + 'sasl_oauth_client_id = "c"\n' + TOKEN_URL,
            "kafka.sasl_oauth_client_secret_env (or sasl_oauth_client_secret_file) is required "
            "with sasl_oauth_token_url",
        ),
        (
            OAUTH + CLIENT + 'sasl_oauth_token_url = "https://u:p@h/t"\n',
            "kafka.sasl_oauth_token_url must not hold credentials: use sasl_oauth_client_id and "
            "sasl_oauth_client_secret_env",
        ),
        (
            SASL + USER + 'sasl_password_file = "p"\n',
            "kafka names both sasl_password_env and sasl_password_file; keep one",
        ),
        (
            SASL + USER.replace("PASSWORD", "MISSING"),
            "kafka.sasl_password_env: the environment variable MISSING is not set: set it to the "
            "password of kafka.sasl_username",
        ),
        (
            SASL + USER.replace("PASSWORD", "EMPTY"),
            "kafka.sasl_password: the environment variable EMPTY is empty: put the password of "
            "kafka.sasl_username there",
        ),
        (
            SASL + 'sasl_username = "u"\nsasl_password_file = "/nowhere"\n',
            "kafka.sasl_password_file: /nowhere cannot be read: No such file or directory",
        ),
        (
            'security_protocol = "SSL"\nssl_cafile = "/nowhere.pem"\n',
            "kafka.ssl_cafile names /nowhere.pem, and there is no such file",
        ),
        (
            f'security_protocol = "SSL"\nssl_cafile = "{LONG}"\n',
            f"kafka.ssl_cafile names {LONG[:200]}, which cannot be read: File name too long",
        ),
        (
            SASL + 'sasl_username = "u"\nsasl_password_file = "a\\u0000b"\n',
            "kafka.sasl_password_file: a\0b cannot be read: it is not text",
        ),
        (
            SASL + 'sasl_username = "u"\nsasl_password_env = "LATIN"\n',
            "kafka.sasl_password_env: the environment variable LATIN is not text in UTF-8",
        ),
        (
            'security_protocol = "SSL"\nssl_certfile = "{pem}"\n',
            "kafka.ssl_keyfile is required with ssl_certfile "
            "(name the same file when it holds both)",
        ),
        (
            'security_protocol = "SSL"\nssl_keyfile = "{pem}"\n',
            "kafka.ssl_certfile is required with ssl_keyfile",
        ),
        (
            'security_protocol = "SSL"\nssl_key_password_env = "PASSWORD"\n',
            "kafka.ssl_key_password_env says nothing without ssl_keyfile",
        ),
        (
            OAUTH + 'sasl_oauth_token_file = "{pem}"\nsasl_oauth_scope = "s"\n',
            "kafka.sasl_oauth_scope says nothing without sasl_oauth_token_url",
        ),
        (
            OAUTH + CLIENT + TOKEN_URL + 'sasl_oauth_token_file = "{pem}"\n',
            "kafka names both sasl_oauth_token_file and sasl_oauth_token_url; keep one",
        ),
    ],
)
def test_what_contradicts_itself_is_named(tmp_path: Path, pem: Path, text: str, says: str) -> None:
    found = mistakes(
        tmp_path, text.replace("{pem}", str(pem)), {**ENVIRON, "EMPTY": "\n", "LATIN": "\udce4"}
    )

    assert found == [says]


def test_all_mistakes_are_named_at_once(tmp_path: Path) -> None:
    text = (
        SASL + 'ssl_cafile = "/nowhere.pem"\nsasl_pasword_env = "P"\n'
        'ssl_key_password_env = "KEY"\n[defaults]\nttl_second = 1\n'
    )

    assert sorted(mistakes(tmp_path, text)) == [
        "defaults.ttl_second is an unknown key; did you mean ttl_seconds?",
        "kafka.sasl_password_env (or sasl_password_file) is required with SCRAM-SHA-512",
        "kafka.sasl_pasword_env is an unknown key; did you mean sasl_password_env?",
        "kafka.sasl_username is required with SCRAM-SHA-512",
        "kafka.ssl_cafile names /nowhere.pem, and there is no such file",
        "kafka.ssl_key_password_env says nothing without ssl_keyfile",
        "kafka.ssl_key_password_env: the environment variable KEY is not set: "
        "set it to the password of kafka.ssl_keyfile",
    ]


@pytest.mark.parametrize(
    ("key", "named"),
    [
        ("sasl_password", "sasl_password_env or sasl_password_file"),
        ("sasl_plain_password", "sasl_password_env or sasl_password_file"),
        ("password", "sasl_password_env or sasl_password_file"),
        ("sasl_jaas_config", "sasl_password_env or sasl_password_file"),
        (
            "sasl_oauth_client_secret",
            "sasl_oauth_client_secret_env or sasl_oauth_client_secret_file",
        ),
        ("ssl_key_password", "ssl_key_password_env or ssl_key_password_file"),
    ],
)
def test_a_secret_in_the_file_is_refused_and_not_repeated(
    tmp_path: Path, key: str, named: str
) -> None:
    [found] = mistakes(tmp_path, f'{key} = "{SECRET}"\n')

    assert found == (
        f"kafka.{key} is refused: a secret never stands in the file; name where it is with {named}"
    )


def test_a_secret_in_the_place_of_its_variable_is_not_repeated(tmp_path: Path) -> None:
    text = SASL + f'sasl_username = "u"\nsasl_password_env = "{SECRET}"\n'

    [found] = mistakes(tmp_path, text)

    assert "must be the name of an environment variable" in found


def test_a_value_of_the_wrong_type_hides_no_other_mistake(tmp_path: Path) -> None:
    found = mistakes(tmp_path, SASL + 'sasl_username = 7\nsasl_password_file = ["a"]\nprefx = ""\n')

    assert len(found) == 3
    assert "kafka.sasl_username must be a valid string" in found


# --- by hand --------------------------------------------------------------------------------

BY_TOKEN: dict[str, Any] = {
    "security_protocol": "SASL_SSL",
    "sasl_mechanism": "OAUTHBEARER",
    "sasl_oauth_client_id": "c",
    "sasl_oauth_client_secret": "s",
}


def test_a_value_made_by_hand_is_checked_as_a_file_is() -> None:
    with pytest.raises(SettingsError) as caught:
        Kafka(
            security_protocol="SASL_SSL",
            sasl_mechanism="SCRAM-SHA-256",
            sasl_username="u",
            ssl_certfile="c.pem",
        )

    assert caught.value.mistakes == [
        "kafka.sasl_password is required with SCRAM-SHA-256",
        "kafka.ssl_keyfile is required with ssl_certfile (name the same file when it holds both)",
    ]


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        (
            {"bootstrap_servers": "h:99999"},
            "kafka.bootstrap_servers must be host:port, or several of them separated by commas",
        ),
        (
            {"sasl_oauth_token_url": f"http://u:{SECRET}@h/", **BY_TOKEN},
            "kafka.sasl_oauth_token_url must not hold credentials: use sasl_oauth_client_id and "
            "sasl_oauth_client_secret_env",
        ),
        (
            {"security_protocol": "TLS"},
            "kafka.security_protocol must be PLAINTEXT, SSL, SASL_PLAINTEXT, SASL_SSL, not 'TLS'",
        ),
        (
            {"security_protocol": "SASL_SSL", "sasl_mechanism": "GSSAPI"},
            "kafka.sasl_mechanism must be PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, OAUTHBEARER, "
            "not 'GSSAPI'",
        ),
        (
            {"sasl_username": "u", "sasl_password": SECRET},
            "kafka.sasl_username, sasl_password say nothing with security_protocol PLAINTEXT; "
            "did you mean SASL_SSL?",
        ),
    ],
)
def test_a_word_that_is_not_known_is_refused(fields: dict[str, str], says: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Kafka(**fields)  # type: ignore[arg-type]

    assert caught.value.mistakes == [says]


def test_no_secret_is_shown() -> None:
    kafka = Kafka(
        security_protocol="SASL_SSL",
        sasl_mechanism="OAUTHBEARER",
        sasl_oauth_token_url="https://h/t",
        sasl_oauth_client_id="c",
        sasl_oauth_client_secret=SECRET,
        ssl_certfile="c",
        ssl_keyfile="k",
        ssl_key_password=SECRET,
    )
    user = Kafka(
        security_protocol="SASL_SSL",
        sasl_mechanism="PLAIN",
        sasl_username="u",
        sasl_password=SECRET,
    )

    assert SECRET not in f"{kafka!r} {kafka} {user!r} {user}"
    assert "sasl_username='u'" in repr(user)
