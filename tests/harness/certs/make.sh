#!/bin/sh
# Makes the certificates anew, in this folder. `openssl ca` because it can date them back: clocks may be wrong.
# Python 3.13 verifies strictly by RFC 5280, so the key identifiers and the key usage must be there.
set -eu
work=$(mktemp -d)
touch "$work/index"
cat > "$work/ca.cnf" <<END
[ca]
default_ca = tests
[tests]
database = $work/index
new_certs_dir = $work
rand_serial = yes
default_md = sha256
policy = any
unique_subject = no
[any]
commonName = supplied
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
[server]
basicConstraints = critical, CA:FALSE
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
extendedKeyUsage = serverAuth
subjectAltName = DNS:localhost, IP:127.0.0.1
END
ask() { # name, subject
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj "/CN=$2" \
        -keyout "$work/$1-key.pem" -out "$work/$1.csr"
}
sign() { # name, extensions, who signs...
    name=$1 kind=$2 && shift 2
    openssl ca -batch -notext -config "$work/ca.cnf" -startdate 20200101000000Z -enddate 21200101000000Z \
        -extensions "$kind" -in "$work/$name.csr" -out "$name.pem" "$@"
}
ask ca "Test authority"
ask other-ca "Another authority"
ask server localhost
sign ca authority -selfsign -keyfile "$work/ca-key.pem"
sign other-ca authority -selfsign -keyfile "$work/other-ca-key.pem"
sign server server -cert ca.pem -keyfile "$work/ca-key.pem"
cp "$work/server-key.pem" server-key.pem
chmod 644 ./*.pem
rm -r "$work"
