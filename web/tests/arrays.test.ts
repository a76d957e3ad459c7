import assert from "node:assert/strict";
import { test } from "node:test";
import { parseArrays, writeArrays } from "../src/arrays.ts";

const data = Float32Array.of(1.5, -2, NaN, 0, 1e-20, 3e8);
const file = { payload: { name: "PCA 4", pieces: [["é", "</script>"]] }, arrays: { values: { shape: [2, 3], data } } };

test("what is written is read again, from any kind of bytes", () => {
  const bytes = writeArrays(file);
  const shifted = new Uint8Array(bytes.length + 3);
  shifted.set(bytes, 3); // a view that starts at an odd address
  for (const form of [bytes, bytes.buffer, new DataView(bytes.buffer), shifted.subarray(3)]) assert.deepEqual(parseArrays(form), file);
});

test("bytes that the Python package safetensors wrote are read", () => {
  const header = '{"__metadata__":{"payload":"{\\"axes\\": [\\"pos\\"]}"},"values":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}';
  const bytes = new Uint8Array(8 + header.length + 8);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(header.length), true);
  bytes.set(new TextEncoder().encode(header), 8);
  bytes.set(new Uint8Array(Float32Array.of(1, 2).buffer), 8 + header.length);
  const { payload, arrays } = parseArrays(bytes);
  assert.deepEqual(payload, { axes: ["pos"] });
  assert.deepEqual([...arrays.values.data], [1, 2]);
});

test("the numbers do not alias the bytes they were read from", () => {
  const bytes = writeArrays(file);
  const { arrays } = parseArrays(bytes);
  bytes.fill(0);
  assert.equal(arrays.values.data[0], 1.5);
});

test("bytes that are no such file are refused in words", () => {
  const bytes = writeArrays(file);
  assert.throws(() => parseArrays(new Uint8Array(3)), /no safetensors file/);
  assert.throws(() => parseArrays(bytes.subarray(0, 40)), /cut off/);
  assert.throws(() => parseArrays(bytes.subarray(0, bytes.length - 1)), /cut off/);
  const wide = writeArrays({ ...file, payload: null });
  wide.set(new TextEncoder().encode("I16"), new TextDecoder().decode(wide).indexOf("F32"));
  assert.throws(() => parseArrays(wide), /is I16; F16, F32, F64, I64 are read/);
});

/** What is read of numbers of some type. */
function read(dtype: string, numbers: Uint16Array | BigInt64Array | Float64Array): number[] {
  const header = JSON.stringify({ values: { dtype, shape: [numbers.length], data_offsets: [0, numbers.byteLength] } });
  const bytes = new Uint8Array(8 + header.length + numbers.byteLength);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(header.length), true);
  bytes.set(new TextEncoder().encode(header), 8);
  bytes.set(new Uint8Array(numbers.buffer), 8 + header.length);
  return [...parseArrays(bytes).arrays.values.data];
}

test("numbers of every type are read as they are", () => {
  const halves = Uint16Array.of(0x3c00, 0xc000, 0x3555, 0x0001, 0x7bff, 0x7c00, 0x7e00, 0x8000);
  assert.deepEqual(read("F16", halves), [1, -2, 0.333251953125, 2 ** -24, 65504, Infinity, NaN, -0]);
  assert.deepEqual(read("I64", BigInt64Array.of(-1n, 0n, 50256n)), [-1, 0, 50256]);
  assert.deepEqual(read("F64", Float64Array.of(0.5, NaN, -Infinity)), [0.5, NaN, -Infinity]);
});
