import type { Page } from "playwright-core";

/**
 * The texts on the page that do not stand out from their ground by WCAG 2.2
 * §1.4.3: 4.5 to 1, or 3 to 1 when large. Empty when all do.
 */
export function contrastFailures(page: Page): Promise<string[]> {
  return page.evaluate(() => {
    type Color = [red: number, green: number, blue: number, alpha: number];

    function parse(css: string): Color {
      const [red = 0, green = 0, blue = 0, alpha = 1] = (css.match(/[\d.]+/g) ?? []).map(Number);
      return [red, green, blue, alpha];
    }

    // Relative luminance, as WCAG defines it.
    function luminance([red, green, blue]: Color): number {
      const linear = [red, green, blue].map((part) => {
        const share = part / 255;
        return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
      });
      return 0.2126 * (linear[0] ?? 0) + 0.7152 * (linear[1] ?? 0) + 0.0722 * (linear[2] ?? 0);
    }

    function ground(element: Element | null): Color {
      for (let each = element; each; each = each.parentElement) {
        const color = parse(getComputedStyle(each).backgroundColor);
        if (color[3] === 1) return color;
        if (color[3] > 0) throw new Error(`a ground that is part see-through: ${each.className}`);
      }
      return [255, 255, 255, 1];
    }

    const failures: string[] = [];
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    for (let text = texts.nextNode(); text; text = texts.nextNode()) {
      const element = text.parentElement;
      const words = text.textContent?.trim();
      if (!element || !words || !element.checkVisibility() || element.closest(".visually-hidden, noscript")) continue;
      const style = getComputedStyle(element);
      const size = Number.parseFloat(style.fontSize);
      const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
      const [brighter = 0, darker = 0] = [luminance(parse(style.color)), luminance(ground(element))].sort((a, b) => b - a);
      const ratio = (brighter + 0.05) / (darker + 0.05);
      if (ratio < (large ? 3 : 4.5)) failures.push(`${ratio.toFixed(2)} to 1: ${words}`);
    }
    return failures;
  });
}
