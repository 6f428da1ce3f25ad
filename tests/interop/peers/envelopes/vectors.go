package main

import (
	"encoding/json"
	"os"
)

type app struct {
	Name   string `json:"name"`
	Public string `json:"ed25519_public_base64"`
	Secret string `json:"app_secret_key_base64"`
}

type vector struct {
	Generator  string   `json:"generator"`
	Kind       string   `json:"kind"`
	Payload    string   `json:"payload"`
	Recipients []string `json:"recipients"`
	Plaintext  string   `json:"plaintext"`
	Wire       string   `json:"wire_payload_base64"`
}

type mustFail struct {
	Why  string `json:"why"`
	Wire string `json:"wire_payload_base64"`
}

func writeVectors() {
	var known struct {
		Apps  []app    `json:"apps"`
		Cases []vector `json:"cases"`
	}
	if err := json.NewDecoder(os.Stdin).Decode(&known); err != nil {
		panic(err)
	}
	var out struct {
		About    string     `json:"about"`
		Cases    []vector   `json:"cases"`
		MustFail []mustFail `json:"malformed"`
	}
	out.About = "Envelopes in the forms of the makers' Go SDK, made by tests/interop/peers/envelopes with the libraries that the SDK uses."
	seen := map[string]bool{}
	for _, from := range known.Cases {
		if seen[from.Payload] {
			continue
		}
		seen[from.Payload] = true
		for count := range len(known.Apps) + 1 {
			kind, to, names := "hybrid", []string{}, []string{}
			for _, app := range known.Apps[:max(count, 1)] {
				to, names = append(to, app.Public), append(names, app.Name)
			}
			if count == 0 {
				kind = "single"
			}
			sealed := must(seal(from.Plaintext, to, count > 0))
			for _, app := range known.Apps[:len(to)] {
				if must(open(sealed, app.Secret)) != from.Plaintext {
					panic("does not open to its plaintext")
				}
			}
			out.Cases = append(out.Cases, vector{"go", kind, from.Payload, names, from.Plaintext, sealed})
		}
	}
	out.MustFail = failures(known.Apps)
	encoder := json.NewEncoder(os.Stdout)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", " ")
	if err := encoder.Encode(out); err != nil {
		panic(err)
	}
}

// One thing is wrong with each.
func failures(apps []app) (all []mustFail) {
	first := apps[0].Public
	add := func(why string, change func(envelope *hybrid, wrapped *sealedBox)) {
		envelope := must(sealHybrid(`{"n":1}`, []string{first}))
		wrapped := envelope.Keys[first]
		change(&envelope, &wrapped)
		envelope.Keys = map[string]sealedBox{first: wrapped}
		all = append(all, mustFail{why, wire(envelope)})
	}
	add("payload altered", func(e *hybrid, _ *sealedBox) { e.Payload.Content = flip(e.Payload.Content) })
	add("wrapped key altered", func(_ *hybrid, w *sealedBox) { w.Content = flip(w.Content) })
	add("wrapped key of 31 bytes", func(_ *hybrid, w *sealedBox) { *w = must(boxFor(first, make([]byte, 31))) })
	add("wrapped key of another message", func(_ *hybrid, w *sealedBox) { *w = must(boxFor(first, make([]byte, 32))) })
	add("wrapped key under another nonce", func(_ *hybrid, w *sealedBox) { w.Nonce = flip(w.Nonce) })
	add("wrapped for another app", func(_ *hybrid, w *sealedBox) { *w = must(boxFor(apps[1].Public, make([]byte, 32))) })
	add("payload shorter than its tag", func(e *hybrid, _ *sealedBox) { e.Payload.Content = "AAAA" })
	add("wrapped key missing", func(_ *hybrid, w *sealedBox) { *w = sealedBox{} })
	return all
}

func flip(text string) string {
	bytes := must(b64.DecodeString(text))
	bytes[0] ^= 1
	return b64.EncodeToString(bytes)
}
