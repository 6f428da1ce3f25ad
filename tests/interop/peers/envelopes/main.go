// Envelopes in the forms of the makers' Go SDK, from the libraries that it is built on: a program of our own, not the SDK.
//
// It reads a line of JSON each, {"do": "seal" or "open", ...}, and answers {"ok": value} or {"error": text}. With the argument
// "vectors" it reads the apps and plaintexts of envelopes.json from standard input and writes go.json.
package main

import (
	"bufio"
	"crypto/rand"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"filippo.io/edwards25519"
	"golang.org/x/crypto/nacl/box"
	"golang.org/x/crypto/nacl/secretbox"
)

// A box for one key: of a payload, or of a message key.
type sealedBox struct {
	Nonce     string `json:"nonce"`
	Content   string `json:"ciphertext"`
	Ephemeral string `json:"ephemeralPublicKey"`
}

type symmetric struct {
	Nonce   string `json:"nonce"`
	Content string `json:"ciphertext"`
}

type hybrid struct {
	Type    string               `json:"type"`
	Payload symmetric            `json:"payload"`
	Keys    map[string]sealedBox `json:"keys"`
}

var b64 = base64.StdEncoding

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

func random[T [24]byte | [32]byte]() (value T) {
	switch v := any(&value).(type) {
	case *[24]byte:
		must(rand.Read(v[:]))
	case *[32]byte:
		must(rand.Read(v[:]))
	}
	return value
}

func array[T [24]byte | [32]byte](text string) (value T, err error) {
	bytes, err := b64.DecodeString(text)
	if err != nil {
		return value, err
	}
	target := []byte(nil)
	switch v := any(&value).(type) {
	case *[24]byte:
		target = v[:]
	case *[32]byte:
		target = v[:]
	}
	if len(bytes) != len(target) {
		return value, fmt.Errorf("%d bytes, not %d", len(bytes), len(target))
	}
	copy(target, bytes)
	return value, nil
}

func boxFor(app string, content []byte) (sealedBox, error) {
	key, err := b64.DecodeString(app)
	if err != nil {
		return sealedBox{}, err
	}
	point, err := new(edwards25519.Point).SetBytes(key)
	if err != nil {
		return sealedBox{}, err
	}
	to := [32]byte(point.BytesMontgomery())
	public, secret, err := box.GenerateKey(rand.Reader)
	if err != nil {
		return sealedBox{}, err
	}
	nonce := random[[24]byte]()
	sealed := box.Seal(nil, content, &nonce, &to, secret)
	return sealedBox{b64.EncodeToString(nonce[:]), b64.EncodeToString(sealed), b64.EncodeToString(public[:])}, nil
}

func (sealed sealedBox) open(secret []byte) ([]byte, error) {
	nonce, err := array[[24]byte](sealed.Nonce)
	if err != nil {
		return nil, err
	}
	ephemeral, err := array[[32]byte](sealed.Ephemeral)
	if err != nil {
		return nil, err
	}
	content, err := b64.DecodeString(sealed.Content)
	if err != nil {
		return nil, err
	}
	if len(secret) != 64 {
		return nil, errors.New("the secret key has not 64 bytes")
	}
	hash := sha512.Sum512(secret[:32])
	hash[0] &= 248
	hash[31] = hash[31]&127 | 64
	scalar := [32]byte(hash[:32])
	opened, ok := box.Open(nil, content, &nonce, &ephemeral, &scalar)
	if !ok {
		return nil, errors.New("does not open")
	}
	return opened, nil
}

func sealHybrid(plaintext string, to []string) (hybrid, error) {
	key, nonce := random[[32]byte](), random[[24]byte]()
	sealed := secretbox.Seal(nil, []byte(plaintext), &nonce, &key)
	envelope := hybrid{"hybrid", symmetric{b64.EncodeToString(nonce[:]), b64.EncodeToString(sealed)}, map[string]sealedBox{}}
	for _, app := range to {
		wrapped, err := boxFor(app, key[:])
		if err != nil {
			return envelope, err
		}
		envelope.Keys[app] = wrapped
	}
	return envelope, nil
}

func seal(plaintext string, to []string, asHybrid bool) (string, error) {
	var envelope any
	var err error
	if asHybrid {
		envelope, err = sealHybrid(plaintext, to)
	} else {
		envelope, err = boxFor(to[0], []byte(plaintext))
	}
	if err != nil {
		return "", err
	}
	return wire(envelope), nil
}

func wire(envelope any) string {
	return b64.EncodeToString(must(json.Marshal(envelope)))
}

// Only "ciphertext" is looked for, and its content is the message key as it is; an entry that fails is skipped.
func open(wire, secretText string) (string, error) {
	text, err := b64.DecodeString(wire)
	if err != nil {
		return "", err
	}
	secret, err := b64.DecodeString(secretText)
	if err != nil {
		return "", err
	}
	var many hybrid
	if err := json.Unmarshal(text, &many); err == nil && many.Type == "hybrid" {
		for _, wrapped := range many.Keys {
			key, err := wrapped.open(secret)
			if err != nil || len(key) != 32 {
				continue
			}
			nonce, err := array[[24]byte](many.Payload.Nonce)
			if err != nil {
				continue
			}
			content, err := b64.DecodeString(many.Payload.Content)
			if err != nil {
				continue
			}
			if opened, ok := secretbox.Open(nil, content, &nonce, (*[32]byte)(key)); ok {
				return string(opened), nil
			}
		}
		return "", errors.New("no entry of keys opens")
	}
	var one sealedBox
	if err := json.Unmarshal(text, &one); err != nil {
		return "", err
	}
	opened, err := one.open(secret)
	return string(opened), err
}

type command struct {
	Do        string   `json:"do"`
	Plaintext string   `json:"plaintext"`
	To        []string `json:"to"`
	Hybrid    bool     `json:"hybrid"`
	Wire      string   `json:"wire"`
	Secret    string   `json:"secret"`
}

func carryOut(line []byte) (string, error) {
	var asked command
	if err := json.Unmarshal(line, &asked); err != nil {
		return "", err
	}
	switch asked.Do {
	case "seal":
		return seal(asked.Plaintext, asked.To, asked.Hybrid)
	case "open":
		return open(asked.Wire, asked.Secret)
	}
	return "", fmt.Errorf("%q is not known", asked.Do)
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == "vectors" {
		writeVectors()
		return
	}
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		answer := map[string]string{}
		if ok, err := carryOut(lines.Bytes()); err != nil {
			answer["error"] = err.Error()
		} else {
			answer["ok"] = ok
		}
		fmt.Println(string(must(json.Marshal(answer))))
	}
}
