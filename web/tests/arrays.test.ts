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
  wide.set(new TextEncoder().encode("F64"), new TextDecoder().decode(wide).indexOf("F32"));
  assert.throws(() => parseArrays(wide), /only F32 and F16/);
});

test("halves are read as they are", () => {
  const halves = Uint16Array.of(0x3c00, 0xc000, 0x3555, 0x0001, 0x7bff, 0x7c00, 0x7e00, 0x8000);
  const header = '{"values":{"dtype":"F16","shape":[8],"data_offsets":[0,16]}}';
  const bytes = new Uint8Array(8 + header.length + 16);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(header.length), true);
  bytes.set(new TextEncoder().encode(header), 8);
  bytes.set(new Uint8Array(halves.buffer), 8 + header.length);
  assert.deepEqual([...parseArrays(bytes).arrays.values.data], [1, -2, 0.333251953125, 2 ** -24, 65504, Infinity, NaN, -0]);
});
