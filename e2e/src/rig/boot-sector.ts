const SECTOR_BYTES = 512;
const LOADED_AT = 0x7c00;
const SIGNATURE = [0x55, 0xaa];

/** A boot sector that writes `text` (ASCII) to the first serial port and halts: ext4 leaves the first 1024 bytes of its disk to a boot loader. */
export function bootSector(text: string): Buffer {
  const program = (textAt: number): number[] =>
    [
      [0xfa], // cli
      [0x31, 0xc0], // xor ax, ax
      [0x8e, 0xd8], // mov ds, ax
      [0xbe, textAt & 0xff, textAt >> 8], // mov si, text
      [0xfc], // cld
      [0xac], // next: lodsb
      [0x84, 0xc0], // test al, al
      [0x74, 0x06], // jz halt
      [0xba, 0xf8, 0x03], // mov dx, 0x3f8
      [0xee], // out dx, al
      [0xeb, 0xf5], // jmp next
      [0xf4], // halt: hlt
      [0xeb, 0xfd], // jmp halt
    ].flat();
  const sector = Buffer.alloc(SECTOR_BYTES);
  const code = program(LOADED_AT + program(0).length);
  sector.set([...code, ...Buffer.from(`${text}\r\n\0`, "latin1")]);
  sector.set(SIGNATURE, SECTOR_BYTES - SIGNATURE.length);
  return sector;
}
