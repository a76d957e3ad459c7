import assert from "node:assert/strict";
import { test } from "node:test";
import { mayPass, ServerError, server } from "../src/pages/server.ts";

const refusal = (status: number) => new ServerError(status, "code", "Something was asked for.", "Give another.");

test("what is wrong with a request stays so, what is wrong with the server may pass", () => {
  for (const status of [0, 401, 429, 500, 503]) assert.equal(mayPass(refusal(status)), true, String(status));
  for (const status of [400, 403, 404, 409, 413, 422]) assert.equal(mayPass(refusal(status)), false, String(status));
  assert.equal(mayPass(new TypeError("not JSON")), true);
});

test("an error at the end of a stream has the status that an answer would have", async () => {
  const real = globalThis.fetch;
  const told = { status: 404, error: { code: "unknown_site", message: "There is no such site.", hint: "Choose another." } };
  globalThis.fetch = async () => new Response(`event: error\ndata: ${JSON.stringify(told)}\n\n`);
  try {
    await assert.rejects(server.pca("resid_pre.99", () => {}), (error) => error instanceof ServerError && error.status === 404 && error.code === "unknown_site" && !mayPass(error));
  } finally {
    globalThis.fetch = real;
  }
});
