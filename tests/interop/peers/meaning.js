// Tells what JSON documents mean to Node's `JSON.parse`: a line of base64 each in, a line of ASCII each out, as `json.rs` spells it.
//
// With the argument `again` it writes each document again with `JSON.stringify` instead.
'use strict';

const hex = (text) => Buffer.from(text).toString('hex');

function meaning(value) {
  if (value === null) return 'z';
  if (typeof value === 'boolean') return value ? 't' : 'f';
  if (typeof value === 'number') {
    const bytes = Buffer.alloc(8);
    bytes.writeDoubleBE(value + 0);
    return 'n' + bytes.toString('hex');
  }
  if (typeof value === 'string') return `s${hex(value)};`;
  if (Array.isArray(value)) return `a(${value.map(meaning).join('')})`;
  const members = Object.keys(value).map((name) => [hex(name), meaning(value[name])]);
  members.sort(([one], [other]) => (one < other ? -1 : 1));
  return `o(${members.map(([name, means]) => `${name}:${means}`).join('')})`;
}

const tell = process.argv[2] === 'again' ? JSON.stringify : meaning;

require('node:readline')
  .createInterface({ input: process.stdin })
  .on('line', (line) => {
    try {
      console.log(tell(JSON.parse(new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(Buffer.from(line, 'base64')))));
    } catch (error) {
      console.log(`! ${error.name}: ${error.message}`.replaceAll('\n', ' '));
    }
  });
