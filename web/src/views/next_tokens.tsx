// An expected answer after every token, and the tokens that are expected most there.

import { useMemo } from "preact/hooks";
import { percent } from "../numbers.ts";
import { type Cell, type Heat, heatDrawing, isSame, stepsOf } from "./heat.ts";
import { HeatMap } from "./heat_map.tsx";
import { Word } from "./legend.tsx";
import { below, oneCellOf } from "./look.ts";
import { FIRST_LEFT_OUT, type Named, present, rangeOf, type Shown, Stand, withoutFirst } from "./present.tsx";
import { visiblePiece } from "./reading.ts";

interface Payload extends Named {
  pieces: string[][];
  texts: Record<string, string>; // of every token that is named, by its id
  warning: string;
}

interface Chosen {
  text: number;
}

function NextTokens({ payload, arrays, alone, tools, chosen, choose, picked, pick, scale, onScale }: Shown<Payload, Chosen, Cell>) {
  const { pieces, warning } = payload;
  const { text = 0 } = chosen;
  const [, width, top] = arrays.top_ids.shape;
  const columns = pieces[text].length;
  const answer = visiblePiece(payload.texts[arrays.answers.data[text]] ?? "");
  // Row 0 is the answer, those below it the best tokens.
  const probAt = ({ row, column }: Cell): number => (row === 0 ? arrays.values.data[text * width + column] : arrays.top_probs.data[(text * width + column) * top + row - 1]);
  const tokenAt = ({ row, column }: Cell): string => (row === 0 ? `#${arrays.ranks.data[text * width + column]}` : visiblePiece(payload.texts[arrays.top_ids.data[(text * width + column) * top + row - 1]] ?? ""));
  const values = useMemo(() => Float32Array.from({ length: (top + 1) * columns }, (_, i) => probAt({ row: Math.floor(i / columns), column: i % columns })), [arrays, text]);
  const shaded = useMemo(() => withoutFirst(values, columns), [values]);
  const range = rangeOf(shaded, scale, "");
  const heat: Heat = {
    rows: [{ text: answer, mark: true }, ...Array.from({ length: top }, (_, i) => ({ text: String(i) }))],
    columns: pieces[text].map((piece, index) => ({ index, text: visiblePiece(piece) })),
    steps: useMemo(() => stepsOf(shaded, range.limit), [shaded, range.limit]),
    words: tokenAt,
    width: [60, 96],
    height: 22,
  };
  const caption = `Rank and probability of ${answer} after every token, and the best tokens there`;
  return (
    <Stand
      shown={{ payload, alone, tools }}
      caption={caption}
      sentence={
        pieces.length > 1 && (
          <>
            Show what is expected in <Word label="Text" value={String(text)} options={pieces.map((_, i) => [String(i), `text ${i}`])} onChange={(text) => choose({ text: Number(text) })} />
          </>
        )
      }
      range={{ ...range, scale, each: null, onScale }}
      notes={[`first row: the rank of ${answer}, from 0; shaded by probability`, columns > 1 ? FIRST_LEFT_OUT : null, warning || null]}
      drawing={() => heatDrawing(heat)}
      table={() => [["pos", "token", "rank", "prob", "logit"], ...pieces[text].map((piece, pos) => [pos, piece, arrays.ranks.data[text * width + pos], arrays.values.data[text * width + pos], arrays.logits.data[text * width + pos]])]}
    >
      <HeatMap
        {...heat}
        label={`${caption}, ${top + 1} rows by ${columns} positions`}
        picked={picked ? [picked] : []}
        number={(cell) => `${tokenAt(cell)} ${percent(probAt(cell))}`}
        tip={(cell) => ({ piece: cell.row === 0 ? answer : tokenAt(cell), value: percent(probAt(cell)), facts: [cell.row === 0 ? `rank ${tokenAt(cell).slice(1)}` : `rank ${cell.row - 1}`, `after ${cell.column} ${visiblePiece(pieces[text][cell.column])}`] })}
        onPick={(cell) => pick(picked && isSame(picked, cell) ? null : cell)}
      />
    </Stand>
  );
}

export default present(NextTokens, ({ pieces }, { top_ids: { shape } }) => ({
  chosen: { text: below(pieces.length) },
  picked: oneCellOf(shape[2] + 1, shape[1]),
}));
