// What a model writes without a direction and with it, side by side; shaded by what the model without it did not expect.

import { plain } from "../numbers.ts";
import { shadeText, stepOf } from "../shades.ts";
import { type Named, present, type Shown, Stand } from "./present.tsx";
import { fitted, widthOf } from "./pen.ts";
import { visiblePiece } from "./reading.ts";
import "./steering.css";

interface Payload extends Named {
  pieces: string[][];
  n_prompt: number;
  settings: Named["settings"] & { added: number; on: string; first: boolean };
}

const NAMES = ["as the model writes on", "with the direction added"];
const LIMIT_NATS = 8; // of the shades, unless another is chosen
const WHERE: Record<string, string> = { prompt: "at the prompt's tokens", new: "at the new tokens", both: "at all tokens" };
const [COLUMN, LINE] = [420, 22]; // px, in a file

function Steering({ payload, arrays, alone, tools, scale, onScale }: Shown<Payload, object, never>) {
  const { pieces, n_prompt, settings } = payload;
  const width = arrays.values.shape[1];
  const limit = scale.mode === "fixed" ? scale.limit : LIMIT_NATS;
  const surprise = (text: number, pos: number): number => -arrays.values.data[text * width + pos];
  const shade = (text: number, pos: number): string | undefined => {
    const step = stepOf(surprise(text, pos), limit);
    return step > 0 ? shadeText(step) : undefined;
  };
  return (
    <Stand
      shown={{ payload, alone, tools }}
      caption="What is written without the direction and with it"
      range={{ limit, signed: false, unit: "nats", scale: scale.mode === "fixed" ? scale : { mode: "shared" }, each: null, onScale }}
      notes={[
        "shaded by surprise: minus the log probability that the model without the direction gives",
        `${plain(settings.added)} units of the stream are added ${WHERE[settings.on]}${settings.first ? "" : ", not at position 0"}`,
      ]}
      drawing={() => ({
        size: [2 * COLUMN + 24, LINE * (2 + Math.max(...pieces.map((text) => Math.ceil((1.2 * widthOf(text.join(""))) / COLUMN) + text.join("").split("\n").length)))],
        draw: (pen, { ink, ink2, shades }) =>
          pieces.forEach((text, i) => {
            const left = i * (COLUMN + 24);
            pen.text(NAMES[i], left, 8, ink2, { face: "sans" });
            let [x, y] = [0, 36];
            text.forEach((piece, pos) => {
              const seen = visiblePiece(piece);
              const wide = Math.min(COLUMN, widthOf(seen));
              if (x + wide > COLUMN) [x, y] = [0, y + LINE];
              const step = pos >= n_prompt ? stepOf(surprise(i, pos), limit) : 0;
              if (step > 0) pen.box(left + x, y - 9, wide, 18, shades[(shades.length - 1) / 2 + step]);
              pen.text(fitted(seen, COLUMN), left + x, y, pos < n_prompt ? ink2 : ink);
              x += wide;
              if (piece.includes("\n")) [x, y] = [0, y + LINE];
            });
          }),
      })}
      table={() => [["text", "pos", "token", "log_prob"], ...pieces.flatMap((text, i) => text.map((piece, pos) => [i ? "steered" : "plain", pos, piece, Number.isNaN(surprise(i, pos)) ? "" : -surprise(i, pos)]))]}
    >
      <div class="steered">
        {pieces.map((text, i) => (
          <section key={i} aria-label={NAMES[i]}>
            <h2>{NAMES[i]}</h2>
            <p>
              {text.map((piece, pos) =>
                pos < n_prompt ? (
                  <i key={pos}>{piece}</i>
                ) : (
                  <span key={pos} style={{ background: shade(i, pos) }} title={Number.isNaN(surprise(i, pos)) ? undefined : `${visiblePiece(piece)}, position ${pos}: ${plain(surprise(i, pos))} nats`}>
                    {piece}
                  </span>
                ),
              )}
            </p>
          </section>
        ))}
      </div>
    </Stand>
  );
}

export default present(Steering, () => ({}));
