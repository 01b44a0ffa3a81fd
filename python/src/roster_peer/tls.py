"""The CA certificates and the client certificate of a client with TLS."""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass
from typing import Union

import grpc

from roster_peer.errors import TLSFileError

Path = Union[str, "os.PathLike[str]"]


@dataclass(frozen=True)
class TLS:
    """TLS for a client. Files are PEM, and read when the client is made.

    TLS() trusts the CA certificates that come with grpcio (or those of
    GRPC_DEFAULT_SSL_ROOTS_FILE_PATH) and has no client certificate.
    """

    #: CA certificates to trust instead.
    ca: Path | None = None
    #: The client certificate, for a server that asks for one, and its key.
    cert: Path | None = None
    key: Path | None = None

    def credentials(self) -> grpc.ChannelCredentials:
        """Returns the files as grpcio's credentials, usable for any channel.

        Raises:
            TLSFileError: a file cannot be read, has no certificate or no key in
                it, or the key is not the certificate's.
        """
        if (self.cert is None) != (self.key is None):
            raise TLSFileError("a certificate and its key go together")
        # grpcio accepts any bytes, and reports nothing until a handshake fails.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        ca = cert = key = None
        if self.ca is not None:
            ca = _read("CA", self.ca)
            try:
                context.load_verify_locations(cadata=ca.decode("ascii"))
            except (ssl.SSLError, ValueError) as error:
                raise TLSFileError(f"CA {self.ca}: has no certificate in it") from error
        if self.cert is not None and self.key is not None:
            cert, key = _read("certificate", self.cert), _read("key", self.key)
            try:
                # Without password=, an encrypted key would prompt for one.
                context.load_cert_chain(self.cert, self.key, password="")
            except ssl.SSLError as error:
                why = (
                    "the key is not the certificate's"
                    if error.reason == "KEY_VALUES_MISMATCH"
                    else "not a certificate and its key, as PEM and not encrypted"
                )
                pair = f"certificate {self.cert} and key {self.key}"
                raise TLSFileError(f"{pair}: {why}") from error
        return grpc.ssl_channel_credentials(ca, key, cert)


def _read(role: str, path: Path) -> bytes:
    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError as error:
        raise TLSFileError(f"{role} {path}: {error.strerror or error}") from error
    if not content:
        raise TLSFileError(f"{role} {path}: is empty")
    return content
