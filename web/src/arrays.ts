// The safetensors container: eight bytes of header length, a JSON header, then the numbers, all read as float32.

export interface Tensor {
  shape: number[];
  data: Float32Array;
}

export interface Arrays<Payload = unknown> {
  payload: Payload;
  arrays: Record<string, Tensor>;
}

export type Bytes = Uint8Array | ArrayBuffer | DataView;

interface Entry {
  dtype: string;
  shape: number[];
  data_offsets: [number, number];
}

/** float16, as the browsers that we support have no array of it yet. */
function fromHalves(halves: Uint16Array): Float32Array {
  return Float32Array.from(halves, (half) => {
    const exponent = (half >> 10) & 31;
    const fraction = half & 1023;
    const size = exponent === 31 ? (fraction ? NaN : Infinity) : exponent ? 2 ** (exponent - 25) * (1024 + fraction) : 2 ** -24 * fraction;
    return half & 0x8000 ? -size : size;
  });
}

const READERS: Record<string, (buffer: ArrayBuffer) => Float32Array> = {
  F16: (buffer) => fromHalves(new Uint16Array(buffer)),
  F32: (buffer) => new Float32Array(buffer),
  F64: (buffer) => Float32Array.from(new Float64Array(buffer)),
  I64: (buffer) => Float32Array.from(new BigInt64Array(buffer), Number),
};

/** Reads safetensors bytes; the payload is the JSON string under `payload` in the metadata (null where there is none). */
export function parseArrays<Payload = unknown>(bytes: Bytes): Arrays<Payload> {
  const view = ArrayBuffer.isView(bytes) ? new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength) : new Uint8Array(bytes);
  if (view.length < 8) throw new Error(`These bytes are no safetensors file: ${view.length} bytes, at least 8 are needed.`);
  const length = Number(new DataView(view.buffer, view.byteOffset, 8).getBigUint64(0, true));
  if (8 + length > view.length) throw new Error(`These bytes are cut off: the header has ${length} bytes, ${view.length - 8} are here.`);
  const { __metadata__: metadata, ...entries } = JSON.parse(new TextDecoder().decode(view.subarray(8, 8 + length))) as Record<string, Entry> & {
    __metadata__?: Record<string, string>;
  };
  const arrays: Record<string, Tensor> = {};
  for (const [name, { dtype, shape, data_offsets }] of Object.entries(entries)) {
    const read = READERS[dtype];
    if (!read) throw new Error(`The tensor "${name}" is ${dtype}; ${Object.keys(READERS).join(", ")} are read here.`);
    const [from, to] = data_offsets.map((offset) => 8 + length + offset);
    if (to > view.length) throw new Error(`These bytes are cut off: the tensor "${name}" ends after their end.`);
    // A copy, because the numbers may start at an address that they cannot be read from.
    arrays[name] = { shape, data: read(view.slice(from, to).buffer) };
  }
  return { payload: JSON.parse(metadata?.payload ?? "null") as Payload, arrays };
}

/** Writes what `parseArrays` reads. */
export function writeArrays({ payload, arrays }: Arrays): Uint8Array<ArrayBuffer> {
  let end = 0;
  const header: Record<string, unknown> = { __metadata__: { payload: JSON.stringify(payload) } };
  for (const [name, { shape, data }] of Object.entries(arrays))
    header[name] = { dtype: "F32", shape, data_offsets: [end, (end += data.byteLength)] };
  const text = new TextEncoder().encode(JSON.stringify(header));
  const start = 8 + Math.ceil(text.length / 8) * 8;
  const bytes = new Uint8Array(start + end).fill(32, 8, start);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(start - 8), true);
  bytes.set(text, 8);
  let at = start;
  for (const { data } of Object.values(arrays)) {
    bytes.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), at);
    at += data.byteLength;
  }
  return bytes;
}
