# The guest of the contract suite: 16-bit code for a BIOS with virtio disks. Build:
#   as --32 -o guest.o boot-sector-guest.s && ld -m elf_i386 -Ttext 0x7c00 --oformat binary -o guest.bin guest.o
# It prints on COM1: "OSR-GUEST", "uuid=" with the raw bytes of the SMBIOS system UUID, "marker=" and "data=" with the text
# of sector 8 of its two disks, "boots=" with a counter that it keeps in sector 9. Then, 18 times a second, it counts in
# sector 10, reads another sector of its first disk and prints "r LBA TEXT"; it turns itself off when asked to by ACPI.
        .intel_syntax noprefix
        .code16
        .globl _start
_start: cli
        xor     ax, ax
        mov     ds, ax
        mov     es, ax
        mov     ss, ax
        mov     sp, 0x7c00
        cld
        sti
        mov     si, offset load_packet
        mov     ah, 0x42
        mov     dl, 0x80
        int     0x13
        jc      hang
        jmp     main
hang:   hlt
        jmp     hang

# Prints AL.
putc:   push    dx
        push    ax
        mov     dx, 0x3fd
1:      in      al, dx
        test    al, 0x20
        jz      1b
        pop     ax
        mov     dx, 0x3f8
        out     dx, al
        pop     dx
        ret
# Prints the text at SI up to NUL.
puts:   lodsb
        test    al, al
        jz      1f
        call    putc
        jmp     puts
1:      ret
newline: mov    al, 10
        jmp     putc
# Prints AL, or AX, in hexadecimal.
puthex4: push   ax
        mov     al, ah
        call    puthex2
        pop     ax
puthex2: push   ax
        shr     al, 4
        call    1f
        pop     ax
1:      and     al, 15
        cmp     al, 10
        jb      2f
        add     al, 'a' - '0' - 10
2:      add     al, '0'
        jmp     putc
# Reads (AH=0x42) or writes (AH=0x43) sector BX of drive DL at 0xa000; carry on error.
sector: mov     [packet_lba], bx
        mov     si, offset packet
        xor     al, al
        int     0x13
        ret
load_packet:
        .byte   16, 0
        .word   3, 0x7e00, 0
        .quad   1
packet: .byte   16, 0
        .word   1, 0xa000, 0
packet_lba:
        .quad   0
        .org    510
        .word   0xaa55

main:   mov     si, offset text_hello
        call    puts
        call    print_uuid
        mov     ax, 0x4280
        mov     dl, al
        mov     bx, 8
        call    sector
        jc      failed
        mov     si, offset text_marker
        call    puts
        mov     si, 0xa000
        call    puts
        call    newline
        mov     ah, 0x42
        mov     dl, 0x81
        mov     bx, 8
        call    sector
        jc      1f
        mov     si, offset text_data
        call    puts
        mov     si, 0xa000
        call    puts
        call    newline
1:      mov     ah, 0x42
        mov     dl, 0x80
        mov     bx, 9
        call    sector
        jc      failed
        inc     word ptr [0xa000]
        mov     ah, 0x43
        mov     dl, 0x80
        mov     bx, 9
        call    sector
        jc      failed
        mov     si, offset text_boots
        call    puts
        mov     ax, [0xa000]
        call    puthex4
        call    newline
        mov     dx, 0x602               # PM1_EN: let the power button set its status bit
        mov     ax, 0x100
        out     dx, ax
        xor     bp, bp
tick:   mov     ax, [0x46c]             # the BIOS counts its timer here
1:      sti
        hlt
        cmp     ax, [0x46c]
        je      1b
        mov     dx, 0x600               # PM1_STS
        in      ax, dx
        test    ah, 1
        jnz     off
        inc     bp
        mov     [0xa000], bp
        mov     ah, 0x43
        mov     dl, 0x80
        mov     bx, 10
        call    sector
        jc      failed
        mov     ax, 131                 # further on by more than a 64 KiB cluster, so that no read is answered from an older one
        mul     bp
        and     ax, 0x1fff
        add     ax, 64
        mov     bx, ax
        mov     ah, 0x42
        mov     dl, 0x80
        call    sector
        jc      failed
        mov     si, offset text_read
        call    puts
        mov     ax, bx
        call    puthex4
        mov     al, ' '
        call    putc
        mov     si, 0xa000
        call    puts
        call    newline
        jmp     tick
failed: mov     si, offset text_failed
        call    puts
        jmp     tick
off:    mov     si, offset text_off
        call    puts
        mov     dx, 0x604               # PM1_CNT: sleep type 0 is S5 here
        mov     ax, 0x2000
        out     dx, ax
        jmp     hang

# Finds the SMBIOS entry point, copies its table below 64 KiB and prints the UUID of the system structure.
print_uuid:
        mov     ax, 0xf000
        mov     es, ax
        xor     di, di
1:      cmp     dword ptr es:[di], 0x5f4d535f
        je      2f
        add     di, 16
        jnz     1b
        push    ds
        pop     es
        ret
2:      mov     eax, es:[di + 0x18]
        push    ds
        pop     es
        mov     [gdt_source + 2], ax
        shr     eax, 16
        mov     [gdt_source + 4], al
        mov     [gdt_source + 7], ah
        mov     si, offset gdt
        mov     cx, 0x400
        mov     ah, 0x87
        int     0x15
        jc      5f
        mov     si, 0x9000
3:      cmp     byte ptr [si], 1
        je      6f
        movzx   bx, byte ptr [si + 1]
        add     si, bx
4:      lodsb
        or      al, [si]
        jnz     4b
        inc     si
        cmp     si, 0x9800
        jb      3b
5:      ret
6:      lea     di, [si + 8]
        mov     si, offset text_uuid
        call    puts
        mov     cx, 16
7:      mov     al, [di]
        inc     di
        call    puthex2
        loop    7b
        jmp     newline
gdt:    .quad   0, 0
gdt_source:
        .word   0xffff, 0
        .byte   0, 0x93, 0, 0
        .word   0xffff, 0x9000
        .byte   0, 0x93, 0, 0
        .quad   0, 0
text_hello:  .asciz "OSR-GUEST\n"
text_uuid:   .asciz "uuid="
text_marker: .asciz "marker="
text_data:   .asciz "data="
text_boots:  .asciz "boots="
text_read:   .asciz "r "
text_failed: .asciz "disk-error\n"
text_off:    .asciz "powering off\n"
        .org    2048
