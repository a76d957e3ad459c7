// One small note beside what the pointer or the keyboard is on. In the browser's top layer, so nothing cuts it off.

export interface Tip {
  piece: string;
  value: string;
  facts: string[];
}

export interface Tooltip {
  show(tip: Tip, box: DOMRect): void;
  hide(): void;
  remove(): void;
}

export function createTooltip(owner: HTMLElement): Tooltip {
  let el: HTMLElement | null = null;
  const part = (tag: string, text: string, className = ""): HTMLElement => {
    const child = document.createElement(tag);
    child.textContent = text;
    child.className = className;
    return child;
  };
  return {
    show({ piece, value, facts }, box) {
      if (!owner.isConnected) return;
      if (!el) {
        el = document.createElement("div");
        el.className = "residscope tip";
        el.popover = "manual";
        el.setAttribute("role", "status");
        owner.append(el);
      }
      el.replaceChildren(part("b", piece), part("span", value, "value"), ...facts.map((fact) => part("span", fact)));
      if (!el.matches(":popover-open")) el.showPopover();
      const { offsetWidth: width, offsetHeight: height } = el;
      const above = box.top - height - 6;
      el.style.left = `${Math.max(4, Math.min(box.left, document.documentElement.clientWidth - width - 4))}px`;
      el.style.top = `${above >= 4 ? above : box.bottom + 6}px`;
    },
    hide() {
      if (el?.matches(":popover-open")) el.hidePopover();
    },
    remove() {
      el?.remove();
      el = null;
    },
  };
}
